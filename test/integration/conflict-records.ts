/** Conflict records put in on all nodes, as apply would leave them. */
import { conflictId } from '#core/versioning/conflict-id.ts';
import type { TestGateway } from './gateway-fixture.ts';

export interface Loser {
  readonly collection?: string;
  readonly key: string;
  /** Null for a losing delete. */
  readonly row: Readonly<Record<string, string | null>> | null;
  readonly origin?: number;
  readonly counter: number;
  readonly state?: string;
  readonly kind?: string;
  /** When it was found; now without. */
  readonly foundAt?: string;
}

export async function addRecord(gateway: TestGateway, loser: Loser): Promise<string> {
  const { collection = 'docs', key, row, origin = 2, counter, state = 'open' } = loser;
  const id = conflictId(collection, key, { origin, counter });
  for (const node of gateway.nodes.keys()) {
    await gateway.sql(
      node,
      `insert into pgquorum.conflict (id, collection, key, key_texts, shard, kind, loser_rank, loser_epoch, loser_hlc, loser_origin, loser_counter, loser_clock, loser_deleted, loser_row,
         winner_hlc, winner_origin, winner_counter, state, state_hlc, state_origin, decided_by, reason, applied, found_at)
       values ($1, $2, $3, jsonb_build_array($3::text), pgquorum.key_hash($3) % 64, $4, 0, 0, 5, $5::int, $6, jsonb_build_object($5::int::text, $6::bigint), $7::jsonb is null, $7, 6, 1, 7, $8, 6, 1, 'lww', 'older', true, coalesce($9::timestamptz, clock_timestamp()))`,
      [
        id,
        collection,
        key,
        loser.kind ?? 'update-update',
        origin,
        counter,
        row === null ? null : JSON.stringify(row),
        state,
        loser.foundAt ?? null,
      ],
    );
    // As a merge leaves it: the key has seen the loser.
    await gateway.sql(
      node,
      `update pgquorum.version_${collection} set seen = coalesce(seen, clock) || jsonb_build_object($2::text, $3::bigint), applied = true where id = $1`,
      [key, String(origin), counter],
    );
  }
  return id;
}
