/** What the replicator of a node has verified, as it is kept there: which shard comes next, and the rounds of purging. */
import type pg from 'pg';
import type { PurgeRounds } from '../versioning/purge.ts';

type Client = Pick<pg.ClientBase, 'query'>;

/** Of these shards those that were not compared for so long, the longest first. */
export async function dueShards(
  client: Client,
  options: {
    readonly collection: string;
    readonly shards: readonly number[];
    readonly intervalMs: number;
    readonly limit: number;
  },
): Promise<number[]> {
  const { rows } = await client.query<{ shard: number }>(
    `select s.shard from unnest($2::int[]) s(shard) left join pgquorum.verified v on v.collection = $1 and v.shard = s.shard
     where v.at is null or v.at <= clock_timestamp() - $3 * interval '1 millisecond' order by v.at nulls first, s.shard limit $4`,
    [options.collection, options.shards, options.intervalMs, options.limit],
  );
  return rows.map((row) => row.shard);
}

export async function noteVerified(
  client: Client,
  one: {
    readonly collection: string;
    readonly shard: number;
    readonly complete: boolean;
    readonly differences: number;
  },
): Promise<void> {
  await client.query(
    `insert into pgquorum.verified as v (collection, shard, at, complete, differences) select c.name, $2::int, clock_timestamp(), $3, $4::bigint from pgquorum.collection c where c.name = $1
     on conflict (collection, shard) do update set at = excluded.at, complete = excluded.complete, differences = v.differences + excluded.differences`,
    [one.collection, one.shard, one.complete, one.differences],
  );
}

/** When the shard of these that was compared longest ago was; null when one never was. */
export async function verifiedSince(
  client: Client,
  collection: string,
  shards: readonly number[],
): Promise<Date | null> {
  const { rows } = await client.query<{ at: Date | null }>(
    `select case when count(v.at) = cardinality($2::int[]) then min(v.at) end as at from pgquorum.verified v where v.collection = $1 and v.shard = any($2::int[])`,
    [collection, shards],
  );
  return rows[0]!.at;
}

export async function readRounds(
  client: Client,
  { collection, shard }: { readonly collection: string; readonly shard: number },
): Promise<PurgeRounds | null> {
  const { rows } = await client.query<{ rounds: PurgeRounds | null }>(
    'select rounds from pgquorum.verified where collection = $1 and shard = $2',
    [collection, shard],
  );
  return rows[0]?.rounds ?? null;
}

export async function keepRounds(
  client: Client,
  place: { readonly collection: string; readonly shard: number },
  rounds: PurgeRounds | null,
): Promise<void> {
  await client.query('update pgquorum.verified set rounds = $3::jsonb where collection = $1 and shard = $2', [
    place.collection,
    place.shard,
    JSON.stringify(rounds),
  ]);
}
