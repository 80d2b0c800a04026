/**
 * Did a node hold some shards while it was read? Asked after the reading: a node cleans a shard only once it is no replica of it any more, so one that still is
 * had all of it until then. Writers ask before (pgquorum.check_shards), and hold the answer.
 */
import type pg from 'pg';
import { PgquorumError } from '../errors/error.ts';
import { statement } from '../writes/statements.ts';

const heldStatement = statement(
  `select count(*)::int as held from pgquorum.shard_role r where r.collection = $1 and r.shard = any($2::int[]) and r.role = 'replica'`,
);

/** Throws `stale_shard_map`. Nothing is asked of a collection without a map. */
export async function checkStillHeld(
  client: Pick<pg.ClientBase, 'query'>,
  collection: { readonly name: string; readonly map?: unknown },
  shards: readonly number[],
): Promise<void> {
  if (collection.map === undefined) return;
  const wanted = [...new Set(shards)];
  const { rows } = await client.query<{ held: number }>({
    ...heldStatement,
    values: [collection.name, wanted],
  });
  if (rows[0]!.held !== wanted.length)
    throw new PgquorumError('stale_shard_map', 'the node does not hold all of the shards any more');
}
