/**
 * The newest batches of one origin's log, for all who follow it in one process: one reading serves them. Pure but for its own state and for who waits.
 *
 * Invariant: a cursor gets every batch after the positions that it joined with, or an error; never is one left out. What a cursor has not taken
 * yet is not evicted before `drop` gives that cursor up.
 */
import type { LogBatch, Position } from '../changelog/change.ts';
import type { Positions } from '../changelog/port.ts';

export interface TailBufferOptions {
  readonly from: Positions;
  readonly bytesMax: number;
}

const beforeAll = -1n;
/** What a batch and a change take beside their rows, roughly. */
const batchBytes = 200;
const changeBytes = 500;

const sizeOf = (batch: LogBatch): number => batchBytes + batch.bytes + batch.changes.length * changeBytes;

export class TailBuffer {
  readonly #bytesMax: number;
  readonly #entries: LogBatch[] = [];
  /** Number of the first entry: they are numbered as they come. */
  #first = 0;
  #bytes = 0;
  /** Stream -> everything after this position is here; null when the first part of a transaction is gone and its last one is not. */
  readonly #start: Map<number, Position | null>;
  readonly #cursors = new Set<TailCursor>();
  readonly #waiting = new Set<() => void>();
  #failure: Error | null = null;

  constructor({ from, bytesMax }: TailBufferOptions) {
    this.#start = new Map(from);
    this.#bytesMax = bytesMax;
  }

  get bytes(): number {
    return this.#bytes;
  }

  get cursors(): number {
    return this.#cursors.size;
  }

  get failed(): boolean {
    return this.#failure !== null;
  }

  put(batch: LogBatch): void {
    this.#entries.push(batch);
    this.#bytes += sizeOf(batch);
    this.#evict();
    this.#wake();
  }

  /** Null when something after `held` is not here any more. */
  join(held: Positions): TailCursor | null {
    if (this.#failure !== null) return null;
    for (const stream of new Set([...this.#start.keys(), ...held.keys()])) {
      const start = this.#startOf(stream);
      if (start === null || (held.get(stream) ?? beforeAll) < start) return null;
    }
    const cursor = new TailCursor(this, this.#first, held);
    this.#cursors.add(cursor);
    return cursor;
  }

  #startOf(stream: number): Position | null {
    const start = this.#start.get(stream) ?? (this.#start.has(stream) ? null : beforeAll);
    if (start !== null) return start;
    // From the end of the transaction whose beginning is gone.
    return (
      this.#entries.find((batch) => batch.stream === stream && batch.position !== null)?.position ?? null
    );
  }

  /** Whether the reader has to wait for a cursor before it may put more. */
  get full(): boolean {
    return this.#bytes > this.#bytesMax;
  }

  /** Gives up the cursors that the oldest entry is kept for. */
  drop(error: Error): void {
    for (const cursor of this.#cursors) if (cursor.at === this.#first) cursor.fail(error);
    this.#evict();
    this.#wake();
  }

  /** For all cursors, once they have taken what is here. */
  fail(error: Error): void {
    this.#failure ??= error;
    this.#wake();
  }

  /** @internal */
  leave(cursor: TailCursor): void {
    this.#cursors.delete(cursor);
    this.#evict();
    this.#wake();
  }

  /** @internal The batch of that number; undefined when it has not come yet. */
  entry(at: number): LogBatch | undefined {
    const batch = this.#entries[at - this.#first];
    if (batch === undefined && this.#failure !== null) throw this.#failure;
    return batch;
  }

  /** @internal */
  moved(): void {
    if (this.full) this.#evict();
  }

  /** Resolves when something has come, gone or failed, or when the signal aborts. */
  change(signal: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      if (signal.aborted) return resolve();
      const woken = (): void => {
        signal.removeEventListener('abort', woken);
        this.#waiting.delete(woken);
        resolve();
      };
      this.#waiting.add(woken);
      signal.addEventListener('abort', woken, { once: true });
    });
  }

  #evict(): void {
    const before = this.#first;
    const needed = Math.min(...[...this.#cursors].map(({ at }) => at));
    let gone = 0;
    while (this.#bytes > this.#bytesMax && gone < this.#entries.length && this.#first < needed) {
      const batch = this.#entries[gone]!;
      this.#bytes -= sizeOf(batch);
      this.#start.set(batch.stream, batch.position);
      this.#first += 1;
      gone += 1;
    }
    this.#entries.splice(0, gone);
    if (this.#first > before) this.#wake();
  }

  #wake(): void {
    const waiting = [...this.#waiting];
    this.#waiting.clear();
    for (const resolve of waiting) resolve();
  }
}

/** One follower's place in the buffer. */
export class TailCursor {
  readonly #buffer: TailBuffer;
  readonly #held: Positions;
  #at: number;
  #failure: Error | null = null;

  constructor(buffer: TailBuffer, at: number, held: Positions) {
    this.#buffer = buffer;
    this.#at = at;
    this.#held = new Map(held);
  }

  /** Number of the entry that it takes next. */
  get at(): number {
    return this.#at;
  }

  fail(error: Error): void {
    this.#failure ??= error;
    this.#at = Infinity;
  }

  /** The next batch that is not held yet; null when the signal has aborted. */
  async next(signal: AbortSignal): Promise<LogBatch | null> {
    for (;;) {
      if (signal.aborted) return null;
      if (this.#failure !== null) throw this.#failure;
      const batch = this.#buffer.entry(this.#at);
      if (batch === undefined) {
        await this.#buffer.change(signal);
        continue;
      }
      this.#at += 1;
      this.#buffer.moved();
      if (batch.position === null || batch.position > (this.#held.get(batch.stream) ?? beforeAll))
        return batch;
    }
  }

  leave(): void {
    this.#buffer.leave(this);
  }
}
