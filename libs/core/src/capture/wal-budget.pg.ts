/**
 * Lets go of the WAL that a master keeps for a peer that does not read, once it is more than the budget: drops the peer's slot. The peer misses what comes,
 * and finds out: a slot that is missing or made anew is `position_lost`, and what was missed is copied. A slot that is read is never dropped.
 */
import type pg from 'pg';
import type { ClusterNode } from '../topology/found.pg.ts';
import { edgeSlot } from '../topology/names.ts';
import { sqlStateOf } from '../postgres/sqlstate.ts';

export interface Released {
  readonly target: number;
  readonly slot: string;
  readonly bytes: number;
}

/** The event and the drop are one statement: the one does not stand without the other, unless the server ends in between. */
const releaseSql = `with slots as (select * from unnest($1::text[], $2::smallint[]) s(slot, target)),
   over as (
     select s.slot, s.target, (pg_current_wal_lsn() - r.restart_lsn)::float8 as bytes from slots s join pg_replication_slots r on r.slot_name = s.slot
     where not r.active and r.database = current_database() and pg_current_wal_lsn() - r.restart_lsn > $3::numeric
   ), told as (
     insert into pgquorum.event (type, body) select 'resync', jsonb_build_object('happened', 'released', 'from', n.number, 'to', o.target, 'slot', o.slot, 'bytes', o.bytes, 'budgetBytes', $3::numeric)
     from over o, pgquorum.node n
   )
   select o.target, o.slot, o.bytes, pg_drop_replication_slot(o.slot) from over o`;

/** Dropped by somebody else, or read again, in between. */
const passing: ReadonlySet<string> = new Set(['42704', '55006']);

export async function releaseOverBudget(
  client: Pick<pg.ClientBase, 'query'>,
  options: {
    readonly cluster: string;
    readonly origin: ClusterNode;
    readonly nodes: readonly ClusterNode[];
    readonly budgetBytes: number;
  },
): Promise<Released[]> {
  const { cluster, origin, nodes, budgetBytes } = options;
  const targets = nodes.filter((node) => node.number !== origin.number).map((node) => node.number);
  try {
    const { rows } = await client.query<Released>(releaseSql, [
      targets.map((target) => edgeSlot(cluster, origin.number, target)),
      targets,
      budgetBytes,
    ]);
    return rows.map(({ target, slot, bytes }) => ({ target, slot, bytes }));
  } catch (cause) {
    if (!passing.has(sqlStateOf(cause) ?? '')) throw cause;
    return [];
  }
}
