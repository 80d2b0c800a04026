/**
 * The events of one node, in order. Read are only those older than every transaction that still runs on the server, so that none becomes visible behind
 * the place that a reader has reached; a transaction that is left open for long delays events and loses none.
 */
import type pg from 'pg';
import { PgquorumError } from '../errors/error.ts';
import type { EventId, EventPlace, EventType, StoredEvent } from './event.ts';

type Client = Pick<pg.ClientBase, 'query'>;

const rowsPerStep = 5000;
/** What the clocks of nodes and the times at which they hear of something may differ by, when a stream goes on at another node. */
const overlapMs = 300_000;

const expired = () =>
  new PgquorumError('position_expired', 'what happened after this event is no longer remembered');

/** From now on: transactions that run now are told when they have ended. */
export async function placeNow(client: Client): Promise<EventPlace> {
  const { rows } = await client.query<EventPlace>(
    `select pg_snapshot_xmin(pg_current_snapshot())::text as xid, '0' as arrival`,
  );
  return rows[0]!;
}

/** After an event that this node has told. */
export async function placeAfter(client: Client, id: EventId): Promise<EventPlace> {
  const { rows } = await client.query<{ held: boolean }>(
    'select (f.xid, f.arrival) <= ($1::xid8, $2::bigint) as held from pgquorum.event_forgotten f',
    [id.xid, id.arrival],
  );
  if (rows[0]?.held !== true) throw expired();
  return { xid: id.xid, arrival: id.arrival };
}

/** After an event that another node has told: some are told again. */
export async function placeSince(client: Client, atMs: number): Promise<EventPlace> {
  const since = new Date(atMs - overlapMs);
  const { rows } = await client.query<{ held: boolean; xid: string | null; arrival: string | null }>(
    `select f.at < $1 as held, e.xid::text as xid, (e.arrival - 1)::text as arrival
     from pgquorum.event_forgotten f left join lateral (select e.xid, e.arrival from pgquorum.event e where e.at >= $1 order by e.xid, e.arrival limit 1) e on true`,
    [since],
  );
  const row = rows[0];
  if (row?.held !== true) throw expired();
  return row.xid === null || row.arrival === null ? placeNow(client) : { xid: row.xid, arrival: row.arrival };
}

export interface EventPage {
  readonly events: readonly StoredEvent[];
  readonly next: EventPlace;
}

export async function readEvents(
  client: Client,
  {
    after,
    types,
    limit,
  }: { readonly after: EventPlace; readonly types: readonly EventType[]; readonly limit: number },
): Promise<EventPage> {
  const { rows } = await client.query<{ horizon: string; events: StoredEvent[] | null }>(
    `select s.horizon::text as horizon, (
       select jsonb_agg(to_jsonb(e) order by e.place) from (
         select e.xid::text as xid, e.arrival::text as arrival, (extract(epoch from e.at) * 1000)::bigint as "atMs", e.type, e.body, row_number() over (order by e.xid, e.arrival) as place
         from pgquorum.event e where (e.xid, e.arrival) > ($1::xid8, $2::bigint) and e.xid < s.horizon and e.type = any($3::text[]) order by e.xid, e.arrival limit $4
       ) e) as events
     from (select pg_snapshot_xmin(pg_current_snapshot()) as horizon) s`,
    [after.xid, after.arrival, types, limit],
  );
  const { horizon, events } = rows[0]!;
  const found = events ?? [];
  const last = found.at(-1);
  // All below the horizon has been told, of these types: a quiet stream moves on too.
  const next =
    last !== undefined && found.length === limit ? last : furthest(after, { xid: horizon, arrival: '0' });
  return { events: found, next: { xid: next.xid, arrival: next.arrival } };
}

const furthest = (a: EventPlace, b: EventPlace): EventPlace => {
  const difference = BigInt(a.xid) - BigInt(b.xid) || BigInt(a.arrival) - BigInt(b.arrival);
  return difference > 0n ? a : b;
};

/** Forgets events after their time, the oldest first, and remembers up to where. Returns how many went. */
export async function forgetEvents(client: Client, keptMs: number): Promise<number> {
  for (let gone = 0; ;) {
    const step = await client.query(
      `with old as (select e.xid, e.arrival, e.at from pgquorum.event e where e.at < clock_timestamp() - $1 * interval '1 millisecond' order by e.at limit ${rowsPerStep}),
         gone as (delete from pgquorum.event e using old o where e.xid = o.xid and e.arrival = o.arrival returning o.xid, o.arrival, o.at),
         last as (select g.xid, g.arrival from gone g order by g.xid desc, g.arrival desc limit 1),
         noted as (update pgquorum.event_forgotten f set xid = greatest(f.xid, l.xid), arrival = case when l.xid > f.xid then l.arrival when l.xid = f.xid then greatest(f.arrival, l.arrival) else f.arrival end,
           at = greatest(f.at, (select max(g.at) from gone g)) from last l)
       select from gone`,
      [keptMs],
    );
    gone += step.rowCount ?? 0;
    if ((step.rowCount ?? 0) < rowsPerStep) return gone;
  }
}
