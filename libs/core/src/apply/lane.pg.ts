/**
 * One of the parallel appliers of an edge: takes its share of the changes in order, applies them in batches, and writes how far it is in the
 * same transaction. A lane never skips: what it can not apply now is parked or becomes a dead letter, durably, before it goes on.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { PgquorumError } from '../errors/error.ts';
import { failpoint } from '../faults/failpoint.process.ts';
import { changeBytes } from '../changelog/change.ts';
import type { Logger } from '../observability/logger.process.ts';
import { classifyFailure, type Failure } from './failure.ts';
import { failureOf } from './failure-of.pg.ts';
import { deadLetter, park, pauseCollection, pausedCollections, type ApplyItem } from './parking.pg.ts';
import { ApplySession, type SessionOptions } from './session.pg.ts';
import { stampRows } from './stamp.pg.ts';
import { type ApplyCounts } from './outcomes.ts';
import { applyTransaction, type ProgressMark } from './transaction.pg.ts';

export interface LaneOptions {
  readonly session: SessionOptions;
  readonly origin: number;
  readonly log: string;
  readonly lane: number;
  readonly batchSize: number;
  readonly syncIntervalMs: number;
  /** How often an idle lane writes how far it is. */
  readonly idleProgressMs: number;
  readonly logger: Logger;
  /** Called when a position is durably held by this lane. */
  readonly onDurable: (stream: number, position: bigint) => void;
  readonly onApplied: (counts: ApplyCounts, durationMs: number) => void;
  readonly onProblem: (problem: string | null) => void;
  readonly onSetAside?: (outcome: 'parked' | 'dead-letter') => void;
}

type Entry =
  | { readonly kind: 'item'; readonly item: ApplyItem }
  | { readonly kind: 'mark'; readonly stream: number; readonly position: bigint; commitTimeMs: number };

const lockTimeoutMs = 300;
const redosBeforeSplit = 4;
/** Parts of a batch that did not go are tried less: each try may wait for a lock, and a long-locked key shows soon. */
const redosOfPart = 1;
/** Most bytes of rows in one apply transaction. */
const transactionBytesMax = 8 * 1024 * 1024;

const bytesOf = ({ change }: ApplyItem): number => changeBytes(change);

export class Lane {
  private readonly options: LaneOptions;
  private entries: Entry[] = [];
  private head = 0;
  private items = 0;
  private bytes = 0;
  private oldestMs = 0;
  private session: ApplySession | null = null;
  private wake: (() => void) | null = null;
  private roomWaiters: (() => void)[] = [];
  private readonly marks = new Map<number, ProgressMark>();
  private marksWrittenMs = 0;
  private paused = new Set<string>();
  private draining = false;
  private ended = false;
  /** Changes applied since progress was last written. */
  private uncounted = 0;

  constructor(options: LaneOptions) {
    this.options = options;
  }

  get queued(): number {
    return this.items;
  }

  push(item: ApplyItem): void {
    if (this.items === 0) this.oldestMs = Date.now();
    this.entries.push({ kind: 'item', item });
    this.items += 1;
    this.bytes += bytesOf(item);
    this.wake?.();
  }

  /** All before this in the lane belongs to positions up to `position`. */
  mark(stream: number, position: bigint, commitTimeMs: number): void {
    const last = this.entries.length > this.head ? this.entries[this.entries.length - 1] : undefined;
    if (last?.kind === 'mark' && last.stream === stream)
      this.entries[this.entries.length - 1] = {
        kind: 'mark',
        stream,
        position,
        commitTimeMs: Math.max(commitTimeMs, last.commitTimeMs),
      };
    else this.entries.push({ kind: 'mark', stream, position, commitTimeMs });
    this.wake?.();
  }

  /** Resolves when few enough changes and bytes wait. */
  async room(limit: { readonly items: number; readonly bytes: number }, signal: AbortSignal): Promise<void> {
    while (!signal.aborted && !this.ended && (this.items > limit.items || this.bytes > limit.bytes)) {
      await new Promise<void>((resolve) => this.roomWaiters.push(resolve));
    }
  }

  /** Lets whoever waits for room look again. */
  release(): void {
    for (const waiter of this.roomWaiters.splice(0)) waiter();
  }

  /** Forgets which collections are paused, so that the next batch tries them again. */
  resume(collection: string): void {
    this.paused.delete(collection);
    this.session?.catalog.forget(collection); // what was mended may be its table
  }

  /** Finishes what is queued, then `run` ends. */
  drain(): void {
    this.draining = true;
    this.wake?.();
  }

  /** Runs until drained or aborted. Rejects only on what must stop the node. */
  async run(signal: AbortSignal): Promise<void> {
    const woken = () => this.wake?.();
    signal.addEventListener('abort', woken);
    try {
      for (;;) {
        await this.waitForWork(signal);
        if (signal.aborted) return;
        const batch = this.takeBatch();
        if (batch.length > 0) await this.applyBatch(batch, signal);
        else await this.writeIdleProgress(signal);
        if (this.draining && this.head >= this.entries.length && !this.marksPending()) return;
      }
    } finally {
      signal.removeEventListener('abort', woken);
      this.ended = true;
      this.release();
      await this.session?.close();
      this.session = null;
    }
  }

  private marksPending(): boolean {
    return this.marks.size > 0;
  }

  private async waitForWork(signal: AbortSignal): Promise<void> {
    for (;;) {
      if (signal.aborted || this.draining) return;
      const waiting = this.waitMs();
      if (waiting === 0) return;
      await new Promise<void>((resolve) => {
        const timer = waiting === null ? null : setTimeout(resolve, waiting);
        this.wake = () => {
          if (timer !== null) clearTimeout(timer);
          resolve();
        };
      });
      this.wake = null;
    }
  }

  /** 0 = there is something to do now; null = nothing until someone pushes. */
  private waitMs(): number | null {
    if (this.items > 0) {
      if (this.items >= this.options.batchSize) return 0;
      return Math.max(0, this.oldestMs + this.options.syncIntervalMs - Date.now());
    }
    this.takeMarks();
    if (!this.marksPending()) return null;
    return Math.max(0, this.marksWrittenMs + this.options.idleProgressMs - Date.now());
  }

  private takeMarks(): void {
    for (;;) {
      const entry = this.entries[this.head];
      if (entry === undefined || entry.kind !== 'mark') break;
      this.noteMark(entry);
      this.head += 1;
    }
    this.compact();
  }

  private noteMark(entry: Entry & { kind: 'mark' }): void {
    const before = this.marks.get(entry.stream);
    this.marks.set(entry.stream, {
      stream: entry.stream,
      position: entry.position,
      commitTimeMs: Math.max(entry.commitTimeMs, before?.commitTimeMs ?? 0),
      changes: before?.changes ?? 0,
    });
  }

  private takeBatch(): ApplyItem[] {
    const batch: ApplyItem[] = [];
    let bytes = 0;
    while (batch.length < this.options.batchSize && bytes < transactionBytesMax) {
      const entry = this.entries[this.head];
      if (entry === undefined) break;
      this.head += 1;
      if (entry.kind === 'item') {
        batch.push(entry.item);
        bytes += bytesOf(entry.item);
      }
      if (entry.kind === 'mark') this.noteMark(entry);
    }
    this.takeMarks();
    this.items -= batch.length;
    this.bytes -= bytes;
    this.oldestMs = Date.now();
    this.release();
    return batch;
  }

  private compact(): void {
    if (this.head < 1024 || this.head * 2 < this.entries.length) return;
    this.entries = this.entries.slice(this.head);
    this.head = 0;
  }

  private async writeIdleProgress(signal: AbortSignal): Promise<void> {
    this.takeMarks();
    if (this.marksPending()) await this.settle([], true, signal);
  }

  private async applyBatch(batch: readonly ApplyItem[], signal: AbortSignal): Promise<void> {
    await this.settle(batch, true, signal);
  }

  /** Keeps the changes of paused collections aside; gives back the others. */
  private async parkPaused(items: readonly ApplyItem[], signal: AbortSignal): Promise<readonly ApplyItem[]> {
    if (this.paused.size === 0) return items;
    const parked = items.filter((item) => this.paused.has(item.change.collection));
    if (parked.length === 0) return items;
    await this.keep((session) => park(session, this.options.origin, parked), signal);
    for (const _ of parked) this.options.onSetAside?.('parked');
    return items.filter((item) => !this.paused.has(item.change.collection));
  }

  /**
   * Applies `items`, whatever it takes: again after passing troubles, in halves when one of them is in the way, parked or dead when it stays
   * there. With `last` the marks are written too, for then everything before them is done.
   */
  private async settle(
    items: readonly ApplyItem[],
    last: boolean,
    signal: AbortSignal,
    redos = redosBeforeSplit,
  ): Promise<void> {
    for (let redo = 0; ; redo += 1) {
      if (signal.aborted) return;
      items = await this.parkPaused(items, signal);
      const failure = await this.attempt(items, last);
      if (failure === null) return;
      if (failure.kind === 'fatal') throw failure.error;
      if (failure.kind === 'connection') {
        // At a shutdown there is no time to wait for the node: what was not applied is delivered again.
        if (this.draining) throw new PgquorumError('node_unreachable', 'the node was lost while draining');
        redo = 0;
        await this.reconnectLater(signal);
      } else if (failure.kind === 'unversioned') {
        await stampRows(this.options.session.node, failure.rows, this.options.logger);
      } else if (failure.kind === 'retry' && redo < redos) {
        await sleep(2 ** redo * 5 * (0.5 + Math.random()));
      } else if (items.length > 1) {
        const middle = items.length >> 1;
        await this.settle(items.slice(0, middle), false, signal, redosOfPart);
        await this.settle(items.slice(middle), false, signal, redosOfPart);
        items = [];
        redo = 0;
        if (!last) return;
      } else if (items.length === 1) {
        await this.setAside(items[0]!, failure, signal);
        items = [];
        redo = 0;
        if (!last) return;
      } else await sleep(100); // progress alone meets only passing troubles
    }
  }

  private async attempt(items: readonly ApplyItem[], last: boolean): Promise<Failure | null> {
    const started = performance.now();
    const { origin, log, lane } = this.options;
    const marks = last
      ? [...this.marks.values()].map((mark, at) => ({
          ...mark,
          changes: at === 0 ? this.uncounted + items.length : 0,
        }))
      : [];
    try {
      const session = await this.open();
      const counts = await applyTransaction(session, {
        changes: items.map((item) => item.change),
        progress: marks.length > 0 ? { origin, log, lane, marks } : null,
        lockTimeoutMs,
      });
      if (items.length > 0) failpoint('apply-committed');
      this.uncounted = marks.length > 0 ? 0 : this.uncounted + items.length;
      if (last) this.durable(marks);
      if (counts.vanished > 0)
        this.options.logger.warn(
          { rows: counts.vanished },
          'rows were gone behind the triggers: what came has seen them, so nothing is lost',
        );
      if (items.length > 0) this.options.onApplied(counts, performance.now() - started);
      return null;
    } catch (error) {
      const failure = await failureOf(this.session, error);
      if (failure.kind === 'connection') this.options.onProblem('the node can not be reached');
      return failure;
    }
  }

  private durable(marks: readonly ProgressMark[]): void {
    this.marksWrittenMs = Date.now();
    for (const mark of marks) {
      this.marks.delete(mark.stream);
      this.options.onDurable(mark.stream, mark.position);
    }
  }

  private async setAside(
    item: ApplyItem,
    failure: Extract<Failure, { code: string }>,
    signal: AbortSignal,
  ): Promise<void> {
    const { origin, log, logger } = this.options;
    const about = { collection: item.change.collection, sqlstate: failure.sqlstate, reason: failure.message };
    this.options.onSetAside?.(failure.kind === 'poison' ? 'dead-letter' : 'parked');
    switch (failure.kind) {
      case 'retry':
      case 'wait-for-other':
        logger.debug(about, 'change parked: its row is in use or waits for another one');
        return this.keep((session) => park(session, origin, [item]), signal);
      case 'operator':
        logger.error(about, 'collection paused: its changes are parked until this is mended');
        await this.keep(async (session) => {
          await pauseCollection(session, item.change.collection, origin, failure);
          await park(session, origin, [item]);
        }, signal);
        this.paused.add(item.change.collection);
        return;
      case 'poison':
        logger.error(about, 'change can not be applied here: kept as a dead letter');
        return this.keep((session) => deadLetter(session, log, item, failure), signal);
    }
  }

  /** Durably keeps something aside; only the loss of the connection or of disk space can delay it. */
  private async keep(work: (session: ApplySession) => Promise<unknown>, signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      try {
        const session = await this.open();
        await session.client.query('begin');
        await work(session);
        await session.client.query('commit');
        failpoint('apply-kept-aside');
        return;
      } catch (error) {
        const failure = classifyFailure(error);
        if (failure.kind === 'fatal') throw error;
        await this.reconnectLater(signal);
      }
    }
  }

  private async open(): Promise<ApplySession> {
    if (this.session === null) {
      this.session = await ApplySession.open(this.options.session);
      this.paused = new Set(await pausedCollections(this.session, this.options.origin));
      this.options.onProblem(null);
    }
    return this.session;
  }

  private async reconnectLater(signal: AbortSignal): Promise<void> {
    await this.session?.close();
    this.session = null;
    await sleep(200 + Math.random() * 100, undefined, { signal }).catch(() => undefined); // woken by the abort: the caller sees it
  }
}
