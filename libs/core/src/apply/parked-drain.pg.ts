/**
 * Tries parked changes again: of paused collections, of rows that were locked for long, of rows that waited for another one. The first change
 * of a paused collection that can be applied ends its pause.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type pg from 'pg';
import { DriftRecovery } from './drift-recovery.pg.ts';
import { classifyFailure } from './failure.ts';
import { failureOf } from './failure-of.pg.ts';
import {
  deadLetter,
  pausedCollections,
  pauseCollection,
  readParked,
  removeParked,
  type ParkedChange,
} from './parking.pg.ts';
import { ApplySession } from './session.pg.ts';
import { namingBoth } from './standing-row.pg.ts';
import { stampRows } from './stamp.pg.ts';
import { applyTransaction } from './transaction.pg.ts';
import type { JoinedEdgeOptions } from './edge.pg.ts';

const roundMs = 500;
const batchLimit = 200;
/** How long a row may wait for another one that a unique index or foreign key asks for. */
const otherWithinMs = 60_000;
const lockTimeoutMs = 1000;

export class ParkedDrain {
  private readonly options: JoinedEdgeOptions & { readonly resume: (collection: string) => void };
  private readonly recovery: DriftRecovery;
  private session: ApplySession | null = null;

  constructor(options: ParkedDrain['options']) {
    this.options = options;
    this.recovery = new DriftRecovery(options);
  }

  async run(signal: AbortSignal, control: pg.Client): Promise<void> {
    try {
      while (!signal.aborted) {
        const waiting = await control.query<{ parked: boolean }>(
          'select exists (select from pgquorum.parked where origin = $1) or exists (select from pgquorum.pause where origin = $1) as parked',
          [this.options.origin.number],
        );
        if (waiting.rows[0]!.parked) await this.round(signal);
        await sleep(roundMs, undefined, { signal }).catch(() => undefined); // the loop's condition sees the abort
      }
    } finally {
      await this.session?.close();
    }
  }

  private async round(signal: AbortSignal): Promise<void> {
    const { origin, target, logger } = this.options;
    try {
      this.session ??= await ApplySession.open({
        node: target.address,
        application: `pgquorum parked ${origin.name} ${target.name}`,
        originName: `pgquorum_${this.options.cluster}_parked_${origin.number}_${target.number}`,
        join: this.options.join,
      });
      const stuck = new Set<string>();
      let after = '0';
      while (!signal.aborted) {
        const parked = await readParked(this.session, origin.number, after, batchLimit);
        if (parked.length === 0) break;
        after = parked.at(-1)!.id;
        for (const [collection, changes] of Map.groupBy(parked, (one) => one.change.collection)) {
          if (!stuck.has(collection) && !(await this.tryAll(changes, signal))) stuck.add(collection);
        }
      }
      for (const collection of await pausedCollections(this.session, origin.number))
        if (!stuck.has(collection)) await this.endPause(collection);
    } catch (error) {
      if (classifyFailure(error).kind === 'fatal') throw error;
      logger.debug({ err: error }, 'parked changes wait for the next round');
      await this.session?.close();
      this.session = null;
    }
  }

  private async endPause(collection: string): Promise<void> {
    await this.session!.client.query('delete from pgquorum.pause where collection = $1 and origin = $2', [
      collection,
      this.options.origin.number,
    ]);
    this.options.resume(collection);
    this.options.logger.info({ collection }, 'collection goes on');
  }

  /** False when the collection as a whole can not go on yet. */
  private async tryAll(parked: readonly ParkedChange[], signal: AbortSignal): Promise<boolean> {
    const session = this.session!;
    session.catalog.forget(parked[0]!.change.collection);
    try {
      await this.apply(parked);
      return true;
    } catch (error) {
      const failure = await failureOf(session, error);
      if (failure.kind === 'connection' || failure.kind === 'fatal') throw error;
      if (failure.kind === 'operator' && (await this.recovery.recover(session, parked, signal))) return true;
    }
    for (const one of parked) if (!(await this.tryOne(one))) return false;
    return true;
  }

  private async apply(parked: readonly ParkedChange[]): Promise<void> {
    await applyTransaction(this.session!, {
      changes: parked.map((one) => one.change),
      progress: null,
      lockTimeoutMs,
      also: (session) =>
        removeParked(
          session,
          parked.map((one) => one.id),
        ),
    });
  }

  private async tryOne(one: ParkedChange): Promise<boolean> {
    try {
      await this.apply([one]);
      return true;
    } catch (error) {
      const failure = await failureOf(this.session, error);
      switch (failure.kind) {
        case 'connection':
        case 'fatal':
          throw error;
        case 'unversioned':
          await stampRows(this.options.target.address, failure.rows, this.options.logger);
          return true;
        case 'retry':
          return true;
        case 'operator':
          await pauseCollection(this.session!, one.change.collection, this.options.origin.number, failure);
          return false;
        case 'wait-for-other':
          if (Date.now() - one.parkedAt.getTime() < otherWithinMs) return true;
          return this.bury(one, failure);
        case 'poison':
          return this.bury(one, failure);
      }
    }
  }

  private async bury(
    one: ParkedChange,
    failure: { code: string; sqlstate: string | null; message: string; constraint?: string | null },
  ): Promise<boolean> {
    const session = this.session!;
    const message = await namingBoth(session, one.change, {
      ...failure,
      constraint: failure.constraint ?? null,
    });
    await session.client.query('begin');
    await deadLetter(session, this.options.log, one, { ...failure, message });
    await removeParked(session, [one.id]);
    await session.client.query('commit');
    this.options.logger.error(
      { collection: one.change.collection, sqlstate: failure.sqlstate, reason: failure.message },
      'parked change can not be applied here: kept as a dead letter',
    );
    return true;
  }
}
