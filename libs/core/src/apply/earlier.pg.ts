/** What is left of what is gone: of earlier collections of a name (collections/earlier.ts) and of purged versions (versioning/purge.ts). */
import { allShards, earlierSql, horizonsSql } from '../collections/earlier.ts';
import type { Clock } from '../versioning/clock.ts';
import type { PurgeHorizon } from '../versioning/purge.ts';
import type { HlcValue } from '../versioning/version.ts';
import type { ApplySession } from './session.pg.ts';

export async function readEarlier(session: ApplySession, collection: string): Promise<Clock> {
  const rows = await session.run<{ clock: Clock }>('earlier', earlierSql, [collection]);
  return rows.rows[0]?.clock ?? {};
}

export interface Horizons {
  /** Dots of an earlier collection of the name. */
  readonly earlier: Clock;
  /** By shard; none for those in which nothing was ever purged. */
  readonly purged: ReadonlyMap<number, PurgeHorizon>;
}

/** To be asked after the versions were read: a tombstone that was deleted before that is under the horizon that is read here. */
export async function readHorizons(
  session: ApplySession,
  collection: string,
  shards: readonly number[],
): Promise<Horizons> {
  const { rows } = await session.run<{ shard: number; clock: Clock; hlc: string }>('horizons', horizonsSql, [
    collection,
    shards,
  ]);
  let earlier: Clock = {};
  const purged = new Map<number, PurgeHorizon>();
  for (const { shard, clock, hlc } of rows)
    if (shard === allShards) earlier = clock;
    else purged.set(shard, { clock, hlc: BigInt(hlc) as HlcValue });
  return { earlier, purged };
}
