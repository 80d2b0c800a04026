/**
 * Copies into a node what an edge into it has missed: the states of all keys of the origin, collection by collection and shard by shard, tombstones,
 * open losers and closed records included. They merge, so nothing newer is overwritten and no deleted row comes back.
 *
 * Invariants, and what would break them:
 * - the copying begins after the position of the edge was noted, so no write falls between the two;
 * - a cursor is kept only behind what is durable here: a crash copies some keys again, never leaves one out;
 * - a node that goes on under another number has lost the end of its past, of which its topic may hold what an origin has not applied yet. Nobody would send it that
 *   later, since what was applied is not sent on: so it copies from an origin only once that has applied all that the topic holds;
 * - collections are taken in the order of their names; one that is made meanwhile needs no copy, since its writes all come after the position;
 * - bounded: one batch is held at a time (verify/copy-states.pg.ts), and no more keys a second than the limit.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type pg from 'pg';
import { changeCodec } from '../changelog/schema.files.ts';
import { keyText } from '../changelog/change.ts';
import { failpoint } from '../faults/failpoint.process.ts';
import type { Logger } from '../observability/logger.process.ts';
import { closeClient, connect } from '../postgres/connect.pg.ts';
import { SessionLease } from '../postgres/session-lease.pg.ts';
import { adoptFrom } from '../shards/map.pg.ts';
import type { ClusterNode } from '../topology/found.pg.ts';
import { requireConfirmedOn } from '../topology/confirmed.pg.ts';
import { copyLimit } from '../verify/copy-states.pg.ts';
import { StateMerger, type RefusedState } from '../verify/merge-states.pg.ts';
import { StateReader, type WalkBatch, type WalkPlace } from '../verify/read-states.pg.ts';
import { FedCheck } from './fed.pg.ts';
import { republishFormer } from './republish.pg.ts';
import {
  finishResync,
  readSourceState,
  saveCursor,
  saveTotal,
  type Resync,
  type SourceId,
} from './store.pg.ts';

export interface CopierOptions {
  readonly cluster: string;
  readonly origin: ClusterNode;
  readonly target: ClusterNode;
  readonly log: 'wal' | 'kafka';
  /** Most keys a second. */
  readonly keysPerSecond: number;
  readonly logger: Logger;
  /** With Kafka: resolves once the origin has applied all that the target's own topic holds now. */
  readonly ownTopicApplied?: (signal: AbortSignal) => Promise<void>;
  /** Called once the copier looks after its edge. */
  readonly onHealthy?: () => void;
  /** Told whether something is missing on the target, whenever the copier looks. */
  readonly onResync?: (resyncing: boolean) => void;
}

const lookEveryMs = 500;
const answerWithinMs = 60_000;

/** Runs until the signal aborts or something breaks. */
export async function runCopier(options: CopierOptions, signal: AbortSignal): Promise<void> {
  const { origin, target, log } = options;
  const id = { origin: origin.number as number, log };
  const control = await connect(target.address, {
    application: `pgquorum resync ${origin.name} ${target.name}`,
    answerWithinMs,
  });
  const fed = new FedCheck(origin, id);
  try {
    options.onHealthy?.();
    while (!signal.aborted) {
      if (log === 'kafka') await fed.look(control, await readSourceState(control, id));
      const state = await readSourceState(control, id);
      options.onResync?.(state?.state === 'resync');
      if (state?.resync?.phase === 'copying') await copyAlone(options, id, control, signal);
      await sleep(lookEveryMs, undefined, { signal }).catch(() => undefined); // the loop's condition sees the abort
    }
  } catch (cause) {
    if (!signal.aborted) throw cause;
  } finally {
    await fed.close();
    await closeClient(control);
  }
}

/** Of several processes one copies. */
async function copyAlone(
  options: CopierOptions,
  id: SourceId,
  control: pg.Client,
  signal: AbortSignal,
): Promise<void> {
  const lease = await SessionLease.take(options.target.address, `copy ${id.log} ${id.origin}`, signal);
  if (lease === null) return;
  try {
    const resync = (await readSourceState(control, id))?.resync;
    if (resync?.phase !== 'copying') return;
    await new Copying(options, id, control, resync).run(signal);
  } finally {
    await lease.release();
  }
}

interface SourceCollection {
  readonly name: string;
  readonly shards: number;
}

class Copying {
  readonly #options: CopierOptions;
  readonly #id: SourceId;
  readonly #control: pg.Client;
  readonly #resync: Resync;
  #copied = 0;
  readonly #startedMs = performance.now();

  constructor(options: CopierOptions, id: SourceId, control: pg.Client, resync: Resync) {
    this.#options = options;
    this.#id = id;
    this.#control = control;
    this.#resync = resync;
  }

  async run(signal: AbortSignal): Promise<void> {
    const { cluster, origin, target, logger } = this.#options;
    await adoptFrom(this.#control, { me: target.name, peer: origin.address });
    if (await this.#wentBack()) await this.#options.ownTopicApplied?.(signal);
    const application = `pgquorum resync ${origin.name} ${target.name}`;
    const source = await connect(origin.address, { application, answerWithinMs });
    const merger = new StateMerger({ cluster, target, application, logger });
    try {
      await requireConfirmedOn(source, origin, signal);
      for (const collection of await this.#collections(source)) {
        if (this.#resync.cursor !== null && collection.name < this.#resync.cursor.collection) continue;
        if (!(await this.#collection(collection, source, merger, signal))) return;
      }
    } finally {
      await merger.close();
      await closeClient(source);
    }
    const republished = await republishFormer(this.#control, signal);
    if (republished > 0)
      logger.info({ keys: republished }, 'what was lost here and came back goes out to the others');
    failpoint('resync-copied');
    if (await finishResync(this.#control, this.#id, this.#resync.startedAt))
      logger.info({ reason: this.#resync.reason, copied: this.#copied }, 'resync finished');
  }

  /** Has the node had another number? One that joins under the name of a removed one has lost nothing. */
  async #wentBack(): Promise<boolean> {
    const { rows } = await this.#control.query(
      'select from pgquorum.member m, pgquorum.node n where m.name = n.name and m.retired and m.number <> n.number and n.joining_since is null',
    );
    return rows.length > 0;
  }

  /** False when this resync ended without us. */
  async #collection(
    { name, shards }: SourceCollection,
    source: pg.Client,
    merger: StateMerger,
    signal: AbortSignal,
  ): Promise<boolean> {
    const { cursor, startedAt } = this.#resync;
    const reader = await StateReader.open(source, name);
    let place: WalkPlace | null = cursor?.collection === name ? cursor : { shard: 0, after: null };
    while (place !== null) {
      signal.throwIfAborted();
      const batch: WalkBatch = await reader.onward(place, copyLimit);
      const { written, refused } = await merger.merge(batch.changes, signal);
      await this.#keepLeft(name, batch, refused);
      if (batch.states > 0) failpoint('resync-chunk-merged');
      place = batch.next;
      const at = { collection: name, ...(place ?? { shard: shards, after: null }) };
      const copied = { read: batch.states, written, refused: refused.length };
      if (!(await saveCursor(this.#control, this.#id, { startedAt, cursor: at, copied }))) return false;
      if (batch.states > 0) failpoint('resync-cursor-saved');
      await this.#pace(batch, signal);
    }
    return true;
  }

  /** What the target can not take is a dead letter, as it would be by the log. */
  async #keepLeft(
    collection: string,
    { rowless }: WalkBatch,
    refused: readonly RefusedState[],
  ): Promise<void> {
    const { logger } = this.#options;
    if (rowless.length > 0)
      logger.warn({ collection, keys: rowless.length }, 'rows are gone whose versions are alive: not copied');
    for (const one of refused) await this.#bury(collection, one);
    if (refused.length > 0)
      logger.error(
        { collection, keys: refused.length },
        'states can not be applied here: kept as dead letters',
      );
  }

  async #bury(collection: string, { key, change, sqlstate, reason }: RefusedState): Promise<void> {
    const commit = { origin: this.#options.origin.number, commitTimeMs: Date.now(), commitLsn: 0n };
    await this.#control.query(
      `insert into pgquorum.dead_letter (origin, log, stream, collection, key, sqlstate, message, payload) values ($1, $2, 0, $3, $4, $5, $6, $7)`,
      [
        this.#id.origin,
        this.#id.log,
        collection,
        keyText(key),
        sqlstate,
        reason,
        changeCodec().encode(change, commit, this.#options.origin.name).value,
      ],
    );
  }

  async #pace({ states }: WalkBatch, signal: AbortSignal): Promise<void> {
    this.#copied += states;
    const dueMs = (this.#copied / this.#options.keysPerSecond) * 1000;
    const aheadMs = dueMs - (performance.now() - this.#startedMs);
    if (aheadMs > 0) await sleep(aheadMs, undefined, { signal });
  }

  /** In the order of their names as bytes, which is ours too. */
  async #collections(source: pg.Client): Promise<readonly SourceCollection[]> {
    const { rows } = await source.query<SourceCollection & { keys: number }>(
      `select c.name, c.shards, greatest(0, k.reltuples)::float8 as keys from pgquorum.collection c
       left join pg_class k on k.relname = 'version_' || c.name and k.relnamespace = 'pgquorum'::regnamespace order by c.name collate "C"`,
    );
    const keys = rows.reduce((sum, row) => sum + row.keys, 0);
    await saveTotal(this.#control, this.#id, Math.round(keys));
    return rows;
  }
}
