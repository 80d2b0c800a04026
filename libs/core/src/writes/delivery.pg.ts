/**
 * Whole states on their way into one node, from requests that wait for them. What waits is taken along together: under load a transaction, and its wait for the
 * disk, serve many requests. By the apply transaction of the change log, so what comes later by the log is found there.
 *
 * Sessions are opened when there is something to send, and closed when there has been nothing for a while.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { classifyFailure, type Failure } from '../apply/failure.ts';
import { ApplySession } from '../apply/session.pg.ts';
import { stampRows } from '../apply/stamp.pg.ts';
import { applyTransaction } from '../apply/transaction.pg.ts';
import { changeBytes, type DataChange } from '../changelog/change.ts';
import type { NodeAddress } from '../config/settings.ts';
import { PgquorumError } from '../errors/error.ts';
import type { Logger } from '../observability/logger.process.ts';
import { timeOver, type Deadline } from '../postgres/deadline.ts';
import { isStaleMap } from '../postgres/request-error.ts';
import { destroySocket, remainingMs } from '../postgres/session.pg.ts';
import { isUnreachable } from '../postgres/sqlstate.ts';
import { checkBelief, type Belief } from './replica-sets.pg.ts';

export interface Parcel {
  readonly changes: readonly DataChange[];
  readonly belief: Belief;
  readonly deadline: Deadline;
}

export interface DeliveryOptions {
  readonly target: NodeAddress;
  /** As the server sees it. */
  readonly application: string;
  readonly sessionsMax: number;
  readonly logger: Logger;
  /** Called when the node can not be reached. */
  readonly onLost: () => void;
  /** Calls back when the node is found to be gone by others; returns what unregisters it. */
  readonly whenLost: (cut: () => void) => () => void;
}

interface Waiting extends Parcel {
  readonly done: () => void;
  readonly failed: (cause: unknown) => void;
  readonly bytes: number;
  tries: number;
  /** The table has been looked at anew for it. */
  looked: boolean;
  /** With how many at most it may go along: those that failed together are parted, since one of them may be in the way of the others. */
  groupMax: number;
}

const lockTimeoutMs = 200;
/** A transaction takes along at most this much. */
const together = { changes: 1000, bytes: 8 * 1024 * 1024 };
const idleMs = 30_000;
/** What may wait for one node; beyond it the node is too slow to be counted on. */
const queuedBytesMax = 128 * 1024 * 1024;

export class StateDelivery {
  readonly #options: DeliveryOptions;
  #queue: Waiting[] = [];
  #queuedBytes = 0;
  readonly #idle: ApplySession[] = [];
  /** The idle ones and the others. */
  readonly #sessions = new Set<ApplySession>();
  readonly #busy = new Set<Promise<void>>();
  #idleTimer: NodeJS.Timeout | undefined;
  #closed = false;

  constructor(options: DeliveryOptions) {
    this.#options = options;
  }

  /** Resolves when all of it is durable there. Rejects with what is in the way; a part of it may be there then, or come later. */
  send(parcel: Parcel): Promise<void> {
    if (this.#closed) return Promise.reject(notUsed());
    if (this.#queuedBytes > queuedBytesMax)
      return Promise.reject(new PgquorumError('overloaded', 'too much waits for the node'));
    return new Promise((done, failed) => {
      const bytes = parcel.changes.reduce((sum, change) => sum + changeBytes(change), 0);
      this.#queuedBytes += bytes;
      this.#queue.push({
        ...parcel,
        bytes,
        done,
        failed,
        tries: 0,
        looked: false,
        groupMax: together.changes,
      });
      this.#start();
    });
  }

  #start(): void {
    if (this.#queue.length === 0 || this.#busy.size >= this.#options.sessionsMax) return;
    clearTimeout(this.#idleTimer);
    const working = this.#work().finally(() => {
      this.#busy.delete(working);
      this.#start();
      if (this.#busy.size === 0) this.#idleTimer = setTimeout(() => void this.#closeIdle(), idleMs).unref();
    });
    this.#busy.add(working);
  }

  async #work(): Promise<void> {
    for (let batch = this.#take(); batch.length > 0; batch = this.#take()) {
      const cause = await this.#attempt(batch);
      if (cause === null) for (const one of batch) one.done();
      else await this.#failed(batch, cause);
    }
  }

  /** The next that go along together; those that nobody waits for any more are let go of. */
  #take(): Waiting[] {
    const batch: Waiting[] = [];
    let changes = 0;
    let bytes = 0;
    let groupMax = Infinity;
    for (let next = this.#queue[0]; next !== undefined; next = this.#queue[0]) {
      if (isOver(next.deadline)) {
        this.#dequeue();
        next.failed(timeOver(next.deadline));
        continue;
      }
      groupMax = Math.min(groupMax, next.groupMax);
      const fits =
        batch.length < groupMax &&
        changes + next.changes.length <= together.changes &&
        bytes + next.bytes <= together.bytes;
      if (batch.length > 0 && !fits) break;
      this.#dequeue();
      batch.push(next);
      changes += next.changes.length;
      bytes += next.bytes;
    }
    return batch;
  }

  #dequeue(): void {
    this.#queuedBytes -= this.#queue.shift()!.bytes;
  }

  /** Null when it is done. */
  async #attempt(batch: readonly Waiting[]): Promise<unknown> {
    if (this.#closed) return notUsed();
    let session = this.#idle.pop();
    const reused = session !== undefined;
    let unregister: (() => void) | undefined;
    try {
      session ??= await this.#open();
      const { client } = session;
      // A node that fell silent would keep it waiting.
      unregister = this.#options.whenLost(() => destroySocket(client));
      const beliefs = new Map(batch.map(({ belief }) => [JSON.stringify(belief), belief]));
      await applyTransaction(session, {
        changes: batch.flatMap(({ changes }) => changes),
        progress: null,
        lockTimeoutMs,
        also: ({ client }) => Promise.all([...beliefs.values()].map((belief) => checkBelief(client, belief))),
      });
      this.#idle.push(session);
      return null;
    } catch (cause) {
      if (session !== undefined) {
        if (!isUnreachable(cause)) this.#idle.push(session);
        else await this.#end(session);
      }
      // It may have been lost long ago: the server was started anew in between.
      if (!reused || !isUnreachable(cause)) return cause ?? new Error('no reason');
      await this.#closeIdle();
      return await this.#attempt(batch);
    } finally {
      unregister?.();
    }
  }

  async #failed(batch: readonly Waiting[], cause: unknown): Promise<void> {
    const stale = isStaleMap(cause);
    const failure: Failure = stale ? { kind: 'fatal', error: cause } : classifyFailure(cause);
    if (failure.kind === 'connection' || this.#closed) {
      if (!this.#closed) this.#options.onLost();
      for (const one of batch) one.failed(cause);
      return;
    }
    if (failure.kind === 'unversioned')
      await stampRows(this.#options.target, failure.rows, this.#options.logger).catch(() => undefined); // tried again below, to the deadline
    const passing = failure.kind === 'retry' || failure.kind === 'unversioned';
    // The table may be another one than when it was looked at, or will be when it has been mended.
    if (failure.kind === 'operator')
      for (const { catalog } of this.#sessions) for (const name of namesOf(batch)) catalog.forget(name);
    const looksAgain = failure.kind === 'operator' && !batch.every(({ looked }) => looked);
    if (batch.length === 1 && !passing && !looksAgain) {
      batch[0]!.failed(cause);
      return;
    }
    for (const one of batch) {
      one.looked ||= looksAgain;
      one.tries += 1;
      one.groupMax = Math.max(1, batch.length >> 1);
      this.#queuedBytes += one.bytes;
    }
    if (passing) await sleep(2 ** Math.min(batch[0]!.tries, 5) * 2 * (0.5 + Math.random()));
    // Behind what else waits: who is in the way holds up only himself.
    this.#queue.push(...batch);
  }

  async #open(): Promise<ApplySession> {
    const { target, application } = this.#options;
    const session = await ApplySession.open({ node: target, application, originName: null });
    this.#sessions.add(session);
    return session;
  }

  async #end(session: ApplySession): Promise<void> {
    this.#sessions.delete(session);
    await session.close();
  }

  async #closeIdle(): Promise<void> {
    await Promise.all(this.#idle.splice(0).map((session) => this.#end(session)));
  }

  /** What waits is given up. */
  async close(): Promise<void> {
    this.#closed = true;
    clearTimeout(this.#idleTimer);
    for (const one of this.#queue.splice(0)) one.failed(notUsed());
    // A server that does not answer would be waited for.
    await Promise.all([...this.#sessions].map((session) => this.#end(session)));
    await Promise.all(this.#busy);
    clearTimeout(this.#idleTimer);
    await Promise.all([...this.#sessions].map((session) => this.#end(session)));
  }
}

const notUsed = (): PgquorumError => new PgquorumError('node_unreachable', 'the node is not used any more');

const isOver = (deadline: Deadline): boolean =>
  remainingMs(deadline) <= 0 || deadline.signal?.aborted === true;

const namesOf = (batch: readonly Waiting[]): Set<string> =>
  new Set(batch.flatMap(({ changes }) => changes.map(({ collection }) => collection)));
