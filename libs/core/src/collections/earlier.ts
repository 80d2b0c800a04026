/**
 * Telling a collection from an earlier one of its name. What was written into the earlier one may still be on its way when that is dropped, and would
 * come alive in the next one. So a drop leaves a mark on every node: the counters that each node had reached. Counters are never used twice, so
 * every write with a dot within the mark belongs to what was dropped. Pure.
 *
 * The mark is a row of pgquorum.horizon for all shards at once.
 */
export const allShards = -1;

/** $1 the collection. */
export const earlierSql = `select h.clock from pgquorum.horizon h where h.collection = $1 and h.shard = ${allShards}`;

/** The same and the purge horizons of some shards. $1 the collection, $2 shards. */
export const horizonsSql = `select h.shard, h.clock, h.hlc::text as hlc from pgquorum.horizon h where h.collection = $1 and (h.shard = ${allShards} or h.shard = any($2::int[]))`;

/** $1 the collection, $2 a clock that the mark has to cover. */
export const markEarlierSql = `insert into pgquorum.horizon as h (collection, shard, hlc, clock) values ($1, ${allShards}, 0, $2)
  on conflict (collection, shard) do update set clock = h.clock || excluded.clock`;
