import { MemoryLog, type MemoryLogReader } from '#core/changelog/memory.ts';
import { changeLogContract } from './change-log.ts';
import { BatchSource, collection } from './log-batches.ts';

for (const streams of [1, 8]) {
  changeLogContract(`memory, in ${streams} streams`, {
    readers: 'many',
    open: async () => {
      const source = new BatchSource();
      const log = new MemoryLog({ origin: source.origin, streams });
      const writer = log.writer();
      return {
        collection,
        write: (ops) => writer.append([source.batch(ops)]),
        openReader: async () => log.reader(),
        beginning: async () => new Map(),
        forget: async () => {
          for (const [stream, { end }] of log.held()) log.trim(stream, end);
        },
        bytesAhead: (reader) => (reader as MemoryLogReader).bytesAhead,
        bytesAheadMax: 1_000_000,
        close: () => writer.close(),
      };
    },
  });
}
