/**
 * A change log in memory, with the contract of the real ones: several streams, any number of readers, positions that expire. For simulation:
 * it has no clock, no timers and no randomness of its own. A position is the number of a batch on its stream, from 0.
 */
import { PgquorumError } from '../errors/error.ts';
import type { NodeNumber } from '../versioning/version.ts';
import type { LogBatch, Position } from './change.ts';
import type { ChangeLogReader, ChangeLogWriter, HeldPositions, Positions } from './port.ts';
import { partsByStream } from './streams.ts';

export interface MemoryLogOptions {
  readonly origin: NodeNumber;
  readonly streams: number;
}

interface Stream {
  /** Position of the first entry. */
  first: number;
  entries: LogBatch[];
}

/** The log itself. It outlives its readers and writers, as a topic does. */
export class MemoryLog {
  readonly origin: NodeNumber;
  #streams: Stream[];
  #generation = 1;
  readonly #waiting = new Set<() => void>();

  constructor({ origin, streams }: MemoryLogOptions) {
    this.origin = origin;
    this.#streams = emptyStreams(streams);
  }

  writer(): ChangeLogWriter {
    return new MemoryLogWriter(this);
  }

  /** `generation`: the one that the positions to read from were taken in, if known. */
  reader(options: { generation?: string } = {}): MemoryLogReader {
    return new MemoryLogReader(this, options.generation ?? null);
  }

  /** Changes when the log was made anew: positions of the old one mean nothing in it. */
  get generation(): string {
    return String(this.#generation);
  }

  get streams(): number {
    return this.#streams.length;
  }

  add(batch: LogBatch): void {
    for (const { stream, changes, bytes } of partsByStream(batch, this.streams)) {
      const { first, entries } = this.#streams[stream]!;
      entries.push({ ...batch, stream, changes, bytes, position: BigInt(first + entries.length) });
    }
    this.wake();
  }

  /** The batch at a position; null when it is not there yet; `lost` when it is no longer there. */
  at(stream: number, position: bigint): LogBatch | null | 'lost' {
    const { first, entries } = this.#streams[stream]!;
    const index = Number(position) - first;
    return index < 0 ? 'lost' : (entries[index] ?? null);
  }

  held(): HeldPositions {
    return new Map(
      this.#streams.map(({ first, entries }, stream) => [
        stream,
        { first: BigInt(first - 1), end: BigInt(first + entries.length - 1) },
      ]),
    );
  }

  /** Forgets everything of a stream up to a position, as expiry does. */
  trim(stream: number, upTo: Position): void {
    const found = this.#streams[stream]!;
    const dropped = Math.min(Math.max(Number(upTo) + 1 - found.first, 0), found.entries.length);
    found.entries.splice(0, dropped);
    found.first += dropped;
  }

  /** Deletes the log and makes an empty one of the same name. */
  recreate(): void {
    this.#streams = emptyStreams(this.streams);
    this.#generation += 1;
    this.wake();
  }

  wake(): void {
    for (const resolve of this.#waiting) resolve();
    this.#waiting.clear();
  }

  /** Resolves when something may have been added. */
  changed(): Promise<void> {
    return new Promise((resolve) => this.#waiting.add(resolve));
  }
}

const emptyStreams = (streams: number): Stream[] =>
  Array.from({ length: streams }, () => ({ first: 0, entries: [] }));

class MemoryLogWriter implements ChangeLogWriter {
  readonly #log: MemoryLog;
  #closed = false;

  constructor(log: MemoryLog) {
    this.#log = log;
  }

  async append(batches: readonly LogBatch[]): Promise<void> {
    if (this.#closed) throw new PgquorumError('shutting_down', 'the change log writer is closed');
    for (const batch of batches) this.#log.add(batch);
  }

  async positions(): Promise<HeldPositions> {
    return this.#log.held();
  }

  async close(): Promise<void> {
    this.#closed = true;
  }
}

export class MemoryLogReader implements ChangeLogReader {
  readonly origin: NodeNumber;
  readonly #log: MemoryLog;
  readonly #generation: string | null;
  readonly #confirmed = new Map<number, Position>();
  #reading = false;
  #closed = false;

  constructor(log: MemoryLog, generation: string | null) {
    this.origin = log.origin;
    this.#log = log;
    this.#generation = generation;
  }

  get generation(): string {
    return this.#log.generation;
  }

  /** Nothing is taken from the log before the consumer asks for it. */
  readonly bytesAhead = 0;

  /** What the consumer said it holds. */
  get confirmed(): Positions {
    return this.#confirmed;
  }

  async *read({
    from,
    signal,
  }: {
    from: Positions;
    signal: AbortSignal;
  }): AsyncGenerator<LogBatch, void, void> {
    if (this.#reading)
      throw new PgquorumError('invariant_broken', 'a change log reader reads once at a time');
    this.#reading = true;
    const wake = (): void => this.#log.wake();
    signal.addEventListener('abort', wake);
    try {
      const generation = this.#generation ?? this.#log.generation;
      const next = this.#start(from, generation);
      while (!signal.aborted && !this.#closed) {
        let found = false;
        for (const [stream, position] of next) {
          const batch = this.#take(stream, position, generation);
          if (batch === null) continue;
          found = true;
          next.set(stream, position + 1n);
          yield batch;
          if (signal.aborted || this.#closed) return;
        }
        if (!found) await this.#log.changed();
      }
    } finally {
      signal.removeEventListener('abort', wake);
      this.#reading = false;
    }
  }

  #start(from: Positions, generation: string): Map<number, bigint> {
    const next = new Map<number, bigint>();
    for (const [stream, { end }] of this.#log.held()) {
      const held = from.get(stream) ?? -1n;
      if (held > end) throw lost(stream, held);
      this.#take(stream, held + 1n, generation);
      next.set(stream, held + 1n);
    }
    return next;
  }

  #take(stream: number, position: bigint, generation: string): LogBatch | null {
    const batch = this.#log.generation === generation ? this.#log.at(stream, position) : 'lost';
    if (batch === 'lost') throw lost(stream, position - 1n);
    return batch;
  }

  confirm(stream: number, position: Position): void {
    if (position > (this.#confirmed.get(stream) ?? -1n)) this.#confirmed.set(stream, position);
  }

  async positions(): Promise<HeldPositions> {
    return this.#log.held();
  }

  async close(): Promise<void> {
    this.#closed = true;
    this.#log.wake();
  }
}

const lost = (stream: number, position: bigint): PgquorumError =>
  new PgquorumError(
    'position_lost',
    `the log no longer holds what follows position ${position} of stream ${stream}`,
  );
