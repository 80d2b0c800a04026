/**
 * Has a node what a token names? Asked on the connection that reads next, in a statement before: what was there then is there for what comes after. A log that was read far
 * enough is not all: what was set aside of it, and what a resync still copies, is not to be seen yet.
 */
import type pg from 'pg';
import type { CollectionRow } from '../collections/catalog.pg.ts';
import { versionTable } from '../collections/trigger.ts';
import { hasIdSql } from '../collections/row-address.ts';
import { int8Array, textArray } from '../postgres/binary-array.ts';
import { statement, type NamedStatement } from '../writes/statements.ts';
import type { Token, TokenWrite } from '../writes/token.ts';

/** Commit times are kept in milliseconds, rounded. */
const positionsSql = `(select coalesce(bool_and(p.origin = n.number or (exists (select from pgquorum.source s where s.origin = p.origin and s.state = 'ready' and coalesce((
      select bool_and(g.lanes >= s.lanes and case s.log when 'wal' then g.position >= p.position else g.commit_time > to_timestamp(p.at_ms / 1000.0) + interval '1 millisecond' end)
      from (select count(*) as lanes, min(position) as position, min(coalesce(commit_time, '-infinity')) as commit_time
            from pgquorum.progress where origin = s.origin and log = s.log group by stream) g), false))
      and not exists (select from pgquorum.parked k where k.collection = $4 and k.origin = p.origin)
      and not exists (select from pgquorum.dead_letter d where d.collection = $4 and d.origin = p.origin))), true)
    from unnest($5::bigint[], $6::bigint[], $7::bigint[]) p(origin, position, at_ms), pgquorum.node n)`;

const reachedStatement = ({ table }: CollectionRow): NamedStatement =>
  statement(
    `select coalesce((select bool_and(coalesce((coalesce(v.seen, v.clock) ->> w.origin::text)::bigint >= w.counter, false))
        from unnest($1::text[], $2::bigint[], $3::bigint[]) w(id, origin, counter) left join ${versionTable(table)} v on ${hasIdSql(table, 'v', 'w.id')}), true)
      and ${positionsSql} as reached`,
  );

/** `writes` are those of the token that this node is to have. */
export async function isReached(
  client: Pick<pg.ClientBase, 'query'>,
  collection: CollectionRow,
  { positions }: Token,
  writes: readonly TokenWrite[],
): Promise<boolean> {
  const { rows } = await client.query<{ reached: boolean }>({
    ...reachedStatement(collection),
    values: [
      textArray(writes.map(({ id }) => id)),
      int8Array(writes.map(({ dot }) => BigInt(dot.origin))),
      int8Array(writes.map(({ dot }) => BigInt(dot.counter))),
      collection.name,
      int8Array(positions.map(({ origin }) => BigInt(origin))),
      int8Array(positions.map(({ position }) => BigInt(position))),
      int8Array(positions.map(({ atMs }) => BigInt(atMs))),
    ],
  });
  return rows[0]!.reached;
}
