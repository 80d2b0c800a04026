/**
 * The target's side of copying: merges what was read elsewhere by the apply transaction of the change log, so with its locks, its compare-and-set and its
 * conflict records. Gives way to users and lanes and tries again; what can not be merged is told apart from what only has to wait.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { classifyFailure, type Failure } from '../apply/failure.ts';
import { ApplySession } from '../apply/session.pg.ts';
import { stampRows } from '../apply/stamp.pg.ts';
import { applyTransaction } from '../apply/transaction.pg.ts';
import type { DataChange, KeyTexts } from '../changelog/change.ts';
import { PgquorumError } from '../errors/error.ts';
import type { Logger } from '../observability/logger.process.ts';
import type { ClusterNode } from '../topology/found.pg.ts';

/** A state that the target can not take: a unique index or a foreign key is in the way, or the value is refused there. */
export interface RefusedState {
  readonly key: KeyTexts;
  readonly change: DataChange;
  readonly sqlstate: string | null;
  readonly reason: string;
}

interface Counts {
  /** Keys whose winner changed. */
  written: number;
  conflicts: number;
}

/** What could not be merged, or not yet. */
interface Left {
  readonly change: DataChange;
  readonly failure: Failure;
}

export interface Merged extends Readonly<Counts> {
  readonly refused: readonly RefusedState[];
}

export interface StateMergerOptions {
  readonly cluster: string;
  readonly target: ClusterNode;
  readonly application: string;
  readonly logger: Logger;
  /** The target has lost what is under the purge horizon of these states: they are merged as they are (see ApplyRequest). */
  readonly copied?: boolean;
}

const lockTimeoutMs = 300;
const triesBeforeSplit = 3;
/** A single key that somebody keeps locked is waited for this long, then the caller is told. */
const keyWithinMs = 60_000;
const pauseMs = 300;

/** One connection to the target; one merge at a time. */
export class StateMerger {
  readonly #options: StateMergerOptions;
  #session: ApplySession | null = null;

  constructor(options: StateMergerOptions) {
    this.#options = options;
  }

  /**
   * Resolves when all of it is durable on the target, but for what is listed as refused. Rejects when the node can not be reached, when the collection differs
   * there (`schema_drift`) or a key stays locked (`timeout`): then a part of it may have been merged, and may be merged again.
   */
  async merge(changes: readonly DataChange[], signal: AbortSignal): Promise<Merged> {
    if (changes.length === 0) return { written: 0, conflicts: 0, refused: [] };
    const counts = { written: 0, conflicts: 0 };
    const deadline = Date.now() + keyWithinMs;
    let left = await this.#mergeParts(changes, counts, signal);
    // Once more for all: a row that had a unique value may have handed it over by now. Then only for what somebody keeps locked.
    for (let again = left.length > 0; again; again = left.some(isPassing)) {
      if (left.some(isPassing)) await sleep(pauseMs * (0.5 + Math.random()), undefined, { signal });
      const waiting = left;
      left = [];
      for (const { change } of waiting) left.push(...(await this.#mergeParts([change], counts, signal, 1)));
      if (left.some(isPassing) && Date.now() > deadline)
        throw new PgquorumError(
          'timeout',
          `a key of ${changes[0]!.collection} stays locked on ${this.#options.target.name}`,
        );
    }
    return { ...counts, refused: left.map(({ change, failure }) => refusedState(change, failure)) };
  }

  /** All of it, in halves when something is in the way; gives back what was left. */
  async #mergeParts(
    changes: readonly DataChange[],
    counts: Counts,
    signal: AbortSignal,
    triesMax = triesBeforeSplit,
  ): Promise<Left[]> {
    for (let tries = 1; ; tries += 1) {
      signal.throwIfAborted();
      const failure = await this.#attempt(changes, counts);
      if (failure === null) return [];
      if (failure.kind === 'unversioned') {
        await stampRows(this.#options.target.address, failure.rows, this.#options.logger);
      } else if (failure.kind === 'retry' && tries < triesMax) {
        await sleep(2 ** tries * 5 * (0.5 + Math.random()), undefined, { signal });
      } else if (changes.length === 1) {
        return [{ change: changes[0]!, failure }];
      } else {
        const middle = changes.length >> 1;
        // Each try may wait for a lock, and what is locked for long shows soon.
        const first = await this.#mergeParts(changes.slice(0, middle), counts, signal, 1);
        return [...first, ...(await this.#mergeParts(changes.slice(middle), counts, signal, 1))];
      }
    }
  }

  /** Null when it was merged; a failure that splitting or waiting may help. */
  async #attempt(changes: readonly DataChange[], counts: Counts): Promise<Failure | null> {
    try {
      this.#session ??= await this.#open();
      const applied = await applyTransaction(this.#session, {
        changes,
        progress: null,
        lockTimeoutMs,
        copied: this.#options.copied ?? false,
      });
      counts.written += applied.written;
      counts.conflicts += applied.conflicts;
      return null;
    } catch (error) {
      const failure = classifyFailure(error);
      if (failure.kind === 'connection' || failure.kind === 'fatal') {
        await this.close();
        throw error;
      }
      if (failure.kind !== 'operator') return failure;
      this.#session?.catalog.forget(changes[0]!.collection); // what will be mended may be its table
      throw error instanceof PgquorumError
        ? error
        : new PgquorumError('schema_drift', `${this.#options.target.name}: ${failure.message}`, {
            cause: error,
          });
    }
  }

  #open(): Promise<ApplySession> {
    const { cluster, target, application } = this.#options;
    return ApplySession.open({
      node: target.address,
      application,
      originName: `pgquorum_${cluster}_copy_${target.number}`,
    });
  }

  async close(): Promise<void> {
    const session = this.#session;
    this.#session = null;
    await session?.close();
  }
}

const isPassing = ({ failure }: Left): boolean => failure.kind === 'retry';

function refusedState(change: DataChange, failure: Failure): RefusedState {
  const told = 'message' in failure ? failure : { sqlstate: null, message: failure.kind };
  return { key: change.key, change, sqlstate: told.sqlstate, reason: told.message };
}
