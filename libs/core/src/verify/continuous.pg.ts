/**
 * Verification that never ends: each node's replicator compares its share of the shards of all collections, those first that were compared longest ago, no faster than a rate,
 * merges what differs, and purges tombstones where all nodes are equal. The share follows from the nodes that can be reached, so a node that is down leaves no shard uncompared;
 * two that see it otherwise for a while compare some twice, which does no harm.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type pg from 'pg';
import { listCollections } from '../collections/catalog.pg.ts';
import { tellEvent } from '../events/tell.pg.ts';
import type { Logger } from '../observability/logger.process.ts';
import { withConnection } from '../postgres/connect.pg.ts';
import type { ClusterNode } from '../topology/found.pg.ts';
import { CollectionPass } from './collection-pass.pg.ts';
import { Purger, type PurgingWaits } from './purge.pg.ts';
import { emptyReport, kindsText, type Report } from './report.ts';
import { dueShards, noteVerified, verifiedSince } from './verified.pg.ts';

export interface ContinuousOptions {
  readonly cluster: string;
  readonly me: ClusterNode;
  readonly nodes: readonly ClusterNode[];
  /** Most versions compared in a second. */
  readonly rowsPerSecond: number;
  /** A shard is not compared again before. */
  readonly intervalMs: number;
  /** How long tombstones stay at least. */
  readonly graceMs: number;
  readonly logger: Logger;
  readonly catchUpMs?: number;
  readonly onShard?: (collection: string, found: ShardFound) => void;
  /** The oldest comparison of this node's share; null when some of it never was. */
  readonly onVerified?: (collection: string, since: Date | null) => void;
  readonly onPurged?: (collection: string, tombstones: number) => void;
  /** Told with every pass why no tombstone may go; null when that is not so. */
  readonly onPurging?: (collection: string, waits: PurgingWaits | null) => void;
}

export interface ShardFound {
  readonly shard: number;
  readonly differences: number;
  readonly mended: number;
}

const unreachable: PurgingWaits = { waits: 'membership', detail: 'a node can not be reached' };
/** So many with one opening of connections. */
const shardsPerPass = 16;
const connection = { application: 'pgquorum verify', answerWithinMs: 30_000 };

/** Goes once through what is due. A collection that can not be compared (its table differs, say) holds no other one up. Returns how many shards were compared. */
export async function verifyDue(options: ContinuousOptions, signal: AbortSignal): Promise<number> {
  return withConnection(options.me.address, connection, async (client) => {
    let compared = 0;
    const failed: unknown[] = [];
    for (const { name } of await listCollections(client)) {
      try {
        for (let some = shardsPerPass; some === shardsPerPass; compared += some) {
          signal.throwIfAborted();
          some = await verifySome(options, { client, collection: name }, signal);
        }
      } catch (cause) {
        signal.throwIfAborted();
        failed.push(cause);
      }
    }
    if (failed.length > 0) throw failed[0];
    return compared;
  });
}

interface Place {
  readonly client: pg.Client;
  readonly collection: string;
}

async function verifySome(
  options: ContinuousOptions,
  { client, collection }: Place,
  signal: AbortSignal,
): Promise<number> {
  const { me, intervalMs, graceMs, logger } = options;
  // Opening connections to all nodes is not worth it while nothing is due, whoever can be reached.
  const all = await shardsOf(client, collection);
  const asked = { collection, intervalMs };
  if ((await dueShards(client, { ...asked, shards: all, limit: 1 })).length === 0) return 0;
  const report = emptyReport();
  const repair = { kind: 'merge' } as const;
  await using pass = await CollectionPass.open(
    { ...options, collection, deep: false, repair, mergeOpen: false, signal },
    report,
  );
  const place = pass.nodes.findIndex((node) => node.name === me.name);
  const share = all.filter((shard) => shard % pass.nodes.length === place);
  const shards = await dueShards(client, { ...asked, shards: share, limit: shardsPerPass });
  const home = pass.nodes[place];
  if (shards.length > 0 && home !== undefined) {
    const purging = { ...options, collection, home, nodes: pass.nodes, graceMs, logger, signal };
    const purger = pass.complete ? await Purger.begin(purging) : unreachable;
    const equal: number[] = [];
    for (const shard of shards)
      if (await compareShard({ ...options, pass, report, client, collection }, shard, signal))
        equal.push(shard);
    const purged = purger instanceof Purger ? await purger.finish(equal) : purger;
    const waits = typeof purged === 'number' ? null : purged;
    options.onPurging?.(collection, waits);
    if (typeof purged === 'number' && purged > 0) options.onPurged?.(collection, purged);
  }
  options.onVerified?.(collection, await verifiedSince(client, collection, share));
  return shards.length;
}

/** Tells whether all nodes were there and are equal now. */
async function compareShard(
  options: ContinuousOptions & Place & { readonly pass: CollectionPass; readonly report: Report },
  shard: number,
  signal: AbortSignal,
): Promise<boolean> {
  const { pass, report, client, collection, logger } = options;
  const before = { ...report, byOutcome: { ...report.byOutcome } };
  await pass.digest([shard]);
  const keys = await pass.shard(shard);
  const differences = report.differences - before.differences;
  const mended = report.byOutcome.mended - before.byOutcome.mended;
  const complete = pass.isWhole(shard) && differences === mended && report.inFlight === before.inFlight;
  await noteVerified(client, { collection, shard, complete, differences });
  options.onShard?.(collection, { shard, differences, mended });
  if (differences > 0) {
    await tellEvent(client, 'difference', { collection, shard, differences, mended });
    logger.warn({ collection, shard, differences, mended, kinds: kindsText(report) }, 'masters differed');
  }
  await sleep((keys / options.rowsPerSecond) * 1000, undefined, { signal });
  return complete;
}

async function shardsOf(client: pg.Client, collection: string): Promise<number[]> {
  const { rows } = await client.query<{ shard: number }>(
    'select s as shard from pgquorum.collection c, generate_series(0, c.shards - 1) s where c.name = $1 order by 1',
    [collection],
  );
  return rows.map((row) => row.shard);
}
