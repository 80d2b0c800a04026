/**
 * Copies whole states of keys from one node into another: for repair, for resync, for filling a node that joins.
 *
 * What it promises:
 * - A step that was yielded is durable on the target. Each state is whole (row or tombstone, version, all that was seen, CRDT fields, what is remembered of the
 *   key's gateway requests, open losers with their rows, closed records) and was durable on the source before it left it; closed records may be newer than their state, as in the change log.
 * - It merges, by the code of the change log: nothing that the target has and the source has not seen is overwritten or lost, and concurrent writes
 *   leave the conflict records that they would have left by the log. Copying both ways makes both sides equal, but for what is written meanwhile.
 * - Repetition is harmless, and so is any order of steps: a state that the target has is skipped. After a crash half-way go on behind the last
 *   `next` that was noted, or begin again.
 * - Users may write and lanes may apply on both sides meanwhile: the copy gives way. What is committed on the source after a key was passed is not copied:
 *   it has to come by the change log. So a node that is filled has to read the logs from positions that are not beyond what
 *   the source had applied when the copying began (the caller's duty).
 * - Bounded: a step holds at most `limit` (one row more if it is larger), however large the shard is.
 *
 * What it does not do: keys that the source has never had, and rows without a version there (written with triggers disabled), are not copied: deep
 * verification finds them. What the target refuses (a unique index, a check) is listed in the step, not hidden, and the rest goes on.
 */
import type pg from 'pg';
import type { KeyTexts } from '../changelog/change.ts';
import type { Logger } from '../observability/logger.process.ts';
import { closeClient, connect } from '../postgres/connect.pg.ts';
import { requireConfirmedOn } from '../topology/confirmed.pg.ts';
import type { ClusterNode } from '../topology/found.pg.ts';
import { StateMerger, type RefusedState } from './merge-states.pg.ts';
import { StateReader, type BatchLimit, type KeyRange, type StateBatch } from './read-states.pg.ts';

export interface CopyOptions {
  readonly cluster: string;
  readonly collection: string;
  readonly source: ClusterNode;
  readonly target: ClusterNode;
  readonly logger: Logger;
  readonly signal: AbortSignal;
  readonly limit?: BatchLimit;
  /** The source is known to have forgotten nothing, and the target to have lost these keys: what is under the purge horizon is merged too. */
  readonly copied?: boolean;
}

export interface CopyStep {
  /** States that were read, and those of them that made another winner stand on the target. */
  readonly read: number;
  readonly written: number;
  readonly conflicts: number;
  /** Keys whose row the source has lost behind the triggers' back: not copied. */
  readonly rowless: readonly KeyTexts[];
  readonly refused: readonly RefusedState[];
  /** Of a range: go on behind this key; null when it is done. */
  readonly next: KeyTexts | null;
}

export const copyLimit: BatchLimit = { rows: 500, bytes: 8 * 1024 * 1024 };
const answerWithinMs = 60_000;

/** Copies the keys of a range of one shard, in key order. */
export async function* copyRange(options: CopyOptions, range: KeyRange): AsyncGenerator<CopyStep> {
  await using copy = await Copy.open(options);
  for (let after = range.after ?? null; ;) {
    const batch = await copy.reader.range({ ...range, after }, options.limit ?? copyLimit);
    yield await copy.step(batch);
    if (batch.next === null) return;
    after = batch.next;
  }
}

/** Copies these keys. */
export async function* copyKeys(options: CopyOptions, keys: readonly KeyTexts[]): AsyncGenerator<CopyStep> {
  await using copy = await Copy.open(options);
  for await (const batch of copy.reader.keys(keys, options.limit ?? copyLimit)) yield await copy.step(batch);
}

class Copy implements AsyncDisposable {
  readonly reader: StateReader;
  readonly #client: pg.Client;
  readonly #merger: StateMerger;
  readonly #signal: AbortSignal;

  private constructor(client: pg.Client, reader: StateReader, options: CopyOptions) {
    this.#client = client;
    this.reader = reader;
    this.#signal = options.signal;
    this.#merger = new StateMerger({
      ...options,
      application: `pgquorum copy ${options.source.name} ${options.target.name}`,
    });
  }

  static async open(options: CopyOptions): Promise<Copy> {
    const client = await connect(options.source.address, {
      application: `pgquorum copy ${options.source.name} ${options.target.name}`,
      answerWithinMs,
    });
    try {
      await requireConfirmedOn(client, options.source, options.signal);
      return new Copy(client, await StateReader.open(client, options.collection), options);
    } catch (cause) {
      await closeClient(client);
      throw cause;
    }
  }

  async step(batch: StateBatch): Promise<CopyStep> {
    this.#signal.throwIfAborted();
    const { written, conflicts, refused } = await this.#merger.merge(batch.changes, this.#signal);
    return { read: batch.states, written, conflicts, refused, rowless: batch.rowless, next: batch.next };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#merger.close();
    await closeClient(this.#client);
  }
}
