/** Single rows, each a commit of its own, that leave on a fixed schedule, whatever becomes of those before them: a stall counts for every write that it delays. */
import type pg from 'pg';
import { setTimeout as delay } from 'node:timers/promises';
import { rowId, upsertOne, type RowSource } from './rows.ts';

export interface Write {
  readonly id: string;
  /** By `performance.now`, as its client saw it. */
  committedAt?: number;
  visibleAt?: number;
}

export interface Schedule {
  readonly table: string;
  readonly prefix: string;
  readonly count: number;
  readonly writesPerSecond: number;
  readonly onSent?: (write: Write) => void;
}

/** Resolves when all are committed; `commits` is how long each of them took. */
export async function writeOnSchedule(
  clients: readonly pg.Client[],
  source: RowSource,
  { table, prefix, count, writesPerSecond, onSent }: Schedule,
): Promise<{ writes: Write[]; commits: number[] }> {
  const rows = Array.from({ length: count }, (_, at) => ({
    id: rowId(prefix, at),
    vector: source.vector(),
  }));
  const writes: Write[] = [];
  const commits: number[] = [];
  const idle: Promise<unknown>[] = clients.map(() => Promise.resolve());
  const began = performance.now();
  for (const [at, { id, vector }] of rows.entries()) {
    const due = began + (at * 1000) / writesPerSecond;
    while (performance.now() < due) await delay(Math.max(0, due - performance.now() - 0.5));
    const write: Write = { id };
    writes.push(write);
    onSent?.(write);
    const sent = performance.now();
    const writer = at % clients.length;
    idle[writer] = idle[writer]!.then(async () => {
      await upsertOne(clients[writer]!, table, id, vector);
      write.committedAt = performance.now();
      commits.push(write.committedAt - sent);
    });
  }
  await Promise.all(idle);
  return { writes, commits };
}
