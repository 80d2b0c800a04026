/**
 * Purging tombstones of shards that were just found equal on all nodes, by the rounds of versioning/purge.ts and in the order of purging/horizon.pg.ts. Two proofs go together:
 * the positions of all logs say that everybody has applied what was written up to some counters, and the comparison says that nothing of it was lost on the way.
 *
 * Nothing is purged while any member can not be asked, has a log that is not caught up, parked changes or dead letters of the collection.
 */
import type pg from 'pg';
import { failpoint } from '../faults/failpoint.process.ts';
import type { Logger } from '../observability/logger.process.ts';
import { askCounter, deleteTombstones, raiseHorizon } from '../purging/horizon.pg.ts';
import type { Clock } from '../versioning/clock.ts';
import { nextRound, type HolderReport } from '../versioning/purge.ts';
import type { NodeNumber, ShardNumber } from '../versioning/version.ts';
import { caughtUp, markNow, parkedPair } from './catch-up.pg.ts';
import { keepRounds, readRounds } from './verified.pg.ts';
import type { VerifyNode } from './verify-node.pg.ts';

export interface PurgerOptions {
  readonly collection: string;
  /** Where the rounds are kept. */
  readonly home: VerifyNode;
  /** All members of the cluster. */
  readonly nodes: readonly VerifyNode[];
  readonly graceMs: number;
  readonly logger: Logger;
  readonly signal: AbortSignal;
  readonly catchUpMs?: number;
}

const catchUpMsDefault = 30_000;
/** A transaction that is open for longer holds purging up until the next time. */
const openWithinMs = 5000;
const rowsPerStep = 1000;

/** Why nothing may be purged now: a word for metrics, and who is to blame for people. */
export interface PurgingWaits {
  readonly waits: 'membership' | 'open-transaction' | 'resync' | 'behind' | 'parked' | 'dead-letters';
  readonly detail: string;
}

export class Purger {
  readonly #options: PurgerOptions;
  /** What every node has merged. */
  readonly #merged: Clock;

  private constructor(options: PurgerOptions, merged: Clock) {
    this.#options = options;
    this.#merged = merged;
  }

  /** To be called before the shards are compared. */
  static async begin(options: PurgerOptions): Promise<Purger | PurgingWaits> {
    const { nodes, collection, signal, catchUpMs = catchUpMsDefault } = options;
    if (!(await areAllMembers(options)))
      return {
        waits: 'membership',
        detail: 'not every member could be asked under the number it is known by',
      };
    const merged = await askCounters(nodes, signal);
    if ('waits' in merged) return merged;
    const behind = await caughtUp(await markNow(nodes), nodes, { collection, withinMs: catchUpMs, signal });
    if (behind.length > 0) return reasonOf(nodes, behind);
    for (const { client, node } of nodes) {
      const put = await client.query('select from pgquorum.dead_letter where collection = $1 limit 1', [
        collection,
      ]);
      if (put.rows.length > 0) return { waits: 'dead-letters', detail: `${node.name} has dead letters` };
    }
    return new Purger(options, merged.counters);
  }

  /** `shards` were found equal on all nodes since `begin`. Returns how many tombstones went, on each node. */
  async finish(shards: readonly number[]): Promise<number | PurgingWaits> {
    const { nodes, signal } = this.#options;
    if (shards.length === 0) return 0;
    const asked = await askCounters(nodes, signal);
    if ('waits' in asked) return asked;
    const { counters } = asked;
    const reports = new Map(
      nodes.map(({ node }): [NodeNumber, HolderReport] => [
        node.number,
        { merged: this.#merged, counter: counters[node.number as number]! },
      ]),
    );
    let purged = 0;
    for (const shard of shards) purged += await this.#shard(shard as ShardNumber, reports);
    return purged;
  }

  async #shard(shard: ShardNumber, reports: ReadonlyMap<NodeNumber, HolderReport>): Promise<number> {
    const { collection, home, nodes, graceMs, logger } = this.#options;
    const place = { collection, shard: shard as number };
    const before = await readRounds(home.client, place);
    const { rounds, raiseTo } = nextRound(before, reports, { nowMs: Date.now(), graceMs });
    const deleted = raiseTo === null ? [] : await this.#raise(shard, raiseTo);
    // Only now: a crash before this does it again, with this clock or a greater one.
    if (rounds !== before) await keepRounds(home.client, place, rounds);
    const purged = Math.max(0, ...deleted);
    if (purged > 0)
      logger.info(
        { collection, shard, deleted: Object.fromEntries(nodes.map((node, at) => [node.name, deleted[at]])) },
        'tombstones purged',
      );
    return purged;
  }

  async #raise(shard: ShardNumber, clock: Clock): Promise<number[]> {
    const { nodes, signal } = this.#options;
    // On every one before any tombstone goes: see purging/horizon.pg.ts.
    for (const { client, table } of nodes) {
      await raiseHorizon(client, { table, shard }, clock);
      failpoint('purge-horizon-raised');
    }
    failpoint('purge-horizons-raised');
    const deleted: number[] = [];
    for (const { client, table } of nodes) {
      let gone = 0;
      for (let step = rowsPerStep; step === rowsPerStep; gone += step) {
        signal.throwIfAborted();
        step = await deleteTombstones(client, { table, shard, clock, limit: rowsPerStep });
      }
      deleted.push(gone);
      if (gone > 0) failpoint('purge-tombstones-deleted');
    }
    return deleted;
  }
}

/** Nobody is left out, and everybody still has the number that it is known by. */
async function areAllMembers({ home, nodes }: PurgerOptions): Promise<boolean> {
  const members = await home.client.query<{ number: number }>(
    'select number from pgquorum.member where not spare and not retired',
  );
  const known = new Set(nodes.map(({ node }) => node.number as number));
  if (members.rows.length !== known.size || members.rows.some((row) => !known.has(row.number))) return false;
  for (const { client, node } of nodes) {
    const { rows } = await client.query<{ number: number }>('select number from pgquorum.node');
    if (rows[0]!.number !== node.number) return false;
  }
  return true;
}

/** Of pairs [origin, target] that are not at the marks. */
async function reasonOf(
  nodes: readonly VerifyNode[],
  behind: readonly (readonly [string, string])[],
): Promise<PurgingWaits> {
  const parked = behind.filter(([origin]) => origin === parkedPair).map(([, target]) => target);
  if (parked.length > 0)
    return { waits: 'parked', detail: `changes are parked on ${parked.toSorted().join(', ')}` };
  const edges = behind.map(([origin, target]) => `${origin} to ${target}`);
  for (const [origin, target] of behind) {
    const from = nodes.find(({ name }) => name === origin)!;
    const { rows } = await nodes
      .find(({ name }) => name === target)!
      .client.query(`select from pgquorum.source where origin = $1 and state = 'resync'`, [from.node.number]);
    if (rows.length > 0)
      return { waits: 'resync', detail: `what was missed from ${origin} to ${target} is being copied` };
  }
  return { waits: 'behind', detail: `not all is applied yet: ${edges.toSorted().join(', ')}` };
}

/** Node's number -> counter. */
async function askCounters(
  nodes: readonly VerifyNode[],
  signal: AbortSignal,
): Promise<{ readonly counters: Clock } | PurgingWaits> {
  const patience = AbortSignal.timeout(openWithinMs);
  const asked = await Promise.allSettled(
    nodes.map(({ client }) => askCounter(client as pg.ClientBase, AbortSignal.any([signal, patience]))),
  );
  signal.throwIfAborted();
  const failed = asked.find((one) => one.status === 'rejected');
  if (failed !== undefined && !patience.aborted) throw failed.reason;
  if (failed !== undefined) {
    const open = nodes.filter((_, at) => asked[at]!.status === 'rejected').map(({ name }) => name);
    return { waits: 'open-transaction', detail: `a transaction that wrote stays open on ${open.join(', ')}` };
  }
  const counters = asked.map((one, at) => [
    nodes[at]!.node.number,
    (one as PromiseFulfilledResult<number>).value,
  ]);
  return { counters: Object.fromEntries(counters) as Clock };
}
