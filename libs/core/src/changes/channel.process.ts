/**
 * One origin's changes for all who follow them in this process. The first follower starts a reading that the others share; who comes with an older
 * position gets a reading of its own until it has caught up with the shared one. When the last one goes, nothing is read.
 *
 * Memory: the shared buffer, and what one reading of a follower's own holds ahead. A follower who takes nothing holds up the others for
 * `slowMs` at most; then it is given up and comes back later with its position.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type { LogBatch, Position } from '../changelog/change.ts';
import type { ChangeLogReader, Positions } from '../changelog/port.ts';
import { PgquorumError } from '../errors/error.ts';
import type { OriginPlace } from './place.ts';
import type { ChangeSource } from './source.ts';
import { TailBuffer, type TailCursor } from './tail-buffer.ts';

export interface ChannelOptions {
  readonly bufferBytesMax?: number;
  readonly slowMs?: number;
}

const bufferBytesDefault = 16 * 1024 * 1024;
const slowMsDefault = 10_000;
/** How often a reading of a follower's own looks whether it is near enough to be the shared one. */
const askEveryMs = 1000;

interface Tail {
  readonly generation: string;
  readonly buffer: TailBuffer;
  readonly stop: AbortController;
}

export class ChangeChannel {
  readonly source: ChangeSource;
  readonly #bufferBytesMax: number;
  readonly #slowMs: number;
  readonly #running = new Set<Promise<void>>();
  #tail: Tail | null = null;
  #own = 0;

  constructor(source: ChangeSource, options: ChannelOptions = {}) {
    this.source = source;
    this.#bufferBytesMax = options.bufferBytesMax ?? bufferBytesDefault;
    this.#slowMs = options.slowMs ?? slowMsDefault;
  }

  get origin(): string {
    return this.source.origin;
  }

  /** Readings that are open now: the shared one and those of followers who catch up. */
  get readings(): number {
    return this.#own + (this.#tail === null ? 0 : 1);
  }

  /** Every batch after `place`, at least once and in the log's order, until the signal aborts. Throws what breaks it; it may be called again. */
  async *follow(place: OriginPlace, signal: AbortSignal): AsyncGenerator<LogBatch, void> {
    const held = new Map<number, Position>(place.positions);
    for (let near = await this.#isNear(held); !signal.aborted; near = true) {
      const cursor = this.#join({ generation: place.generation, positions: held }, near);
      const batches = cursor === null ? this.#catchUp(place, held, signal) : this.#shared(cursor, signal);
      for await (const batch of batches) {
        if (batch.position !== null) held.set(batch.stream, batch.position);
        yield batch;
      }
    }
  }

  /** Whoever is far behind does not begin the shared reading: others would wait for what he has to catch up with. */
  async #isNear(held: Positions): Promise<boolean> {
    const { end } = await this.source.held();
    return [...end].every(([stream, last]) => last - (held.get(stream) ?? -1n) <= this.source.nearMax);
  }

  #join(place: OriginPlace, near: boolean): TailCursor | null {
    if (this.#tail === null || this.#tail.buffer.failed) {
      if (!near) return null;
      this.#tail = this.#start(place);
    }
    return this.#tail.generation === place.generation ? this.#tail.buffer.join(place.positions) : null;
  }

  async *#shared(cursor: TailCursor, signal: AbortSignal): AsyncGenerator<LogBatch, void> {
    const tail = this.#tail!;
    try {
      for (;;) {
        const batch = await cursor.next(signal);
        if (batch === null) return;
        yield batch;
      }
    } finally {
      cursor.leave();
      if (tail.buffer.cursors === 0) this.#stop(tail);
    }
  }

  #stop(tail: Tail): void {
    tail.stop.abort();
    if (this.#tail === tail) this.#tail = null;
  }

  #start({ generation, positions }: OriginPlace): Tail {
    const buffer = new TailBuffer({ from: positions, bytesMax: this.#bufferBytesMax });
    const tail = { generation, buffer, stop: new AbortController() };
    const running = this.#read(tail, new Map(positions)).finally(() => this.#running.delete(running));
    this.#running.add(running);
    return tail;
  }

  /** Never rejects: what breaks goes to the followers. */
  async #read({ generation, buffer, stop }: Tail, positions: Map<number, Position>): Promise<void> {
    let reader: ChangeLogReader | null = null;
    try {
      reader = await this.source.open({ generation, positions });
      for await (const batch of reader.read({ from: positions, signal: stop.signal })) {
        buffer.put(batch);
        if (batch.position !== null) reader.confirm(batch.stream, batch.position);
        await this.#room(buffer, stop.signal);
      }
      buffer.fail(new PgquorumError('shutting_down', `the changes of ${this.origin} are no longer read`));
    } catch (cause) {
      buffer.fail(cause instanceof Error ? cause : new Error(String(cause)));
    } finally {
      await reader?.close().catch((cause: unknown) => buffer.fail(cause as Error));
    }
  }

  async #room(buffer: TailBuffer, signal: AbortSignal): Promise<void> {
    const since = performance.now();
    while (buffer.full && !signal.aborted) {
      const leftMs = since + this.#slowMs - performance.now();
      if (leftMs <= 0) return buffer.drop(tooSlow());
      const done = new AbortController();
      const either = AbortSignal.any([signal, done.signal]);
      const late = sleep(leftMs, undefined, { signal: either }).catch(() => undefined); // ended early: the loop looks again
      await Promise.race([buffer.change(either), late]);
      done.abort();
    }
  }

  /** Ends when the shared reading has what comes next. */
  async *#catchUp(place: OriginPlace, held: Positions, signal: AbortSignal): AsyncGenerator<LogBatch, void> {
    if (this.#own >= this.source.readingsMax)
      throw new PgquorumError('overloaded', `${this.#own} streams are catching up with ${this.origin}`);
    this.#own += 1;
    let askedMs = performance.now();
    const stop = new AbortController();
    let reader: ChangeLogReader | null = null;
    try {
      const from = new Map(held);
      reader = await this.source.open({ generation: place.generation, positions: from });
      const either = AbortSignal.any([signal, stop.signal]);
      for await (const batch of reader.read({ from, signal: either })) {
        yield batch;
        if (batch.position === null) continue;
        reader.confirm(batch.stream, batch.position);
        if (this.#tail === null || this.#tail.buffer.failed) {
          if (performance.now() - askedMs < askEveryMs) continue;
          askedMs = performance.now();
          if (await this.#isNear(held)) return;
        } else if (this.#covers(this.#tail, place.generation, held)) return;
      }
    } finally {
      this.#own -= 1;
      stop.abort();
      await reader?.close();
    }
  }

  #covers(tail: Tail, generation: string, held: Positions): boolean {
    const cursor = tail.generation === generation ? tail.buffer.join(held) : null;
    // Only asked: it joins when this reading has ended, and until then nothing is kept for it.
    cursor?.leave();
    return cursor !== null;
  }

  async close(): Promise<void> {
    if (this.#tail !== null) this.#stop(this.#tail);
    await Promise.all(this.#running);
    await this.source.close();
  }
}

const tooSlow = (): PgquorumError =>
  new PgquorumError('overloaded', 'the stream was not read for too long: come back with the last position');
