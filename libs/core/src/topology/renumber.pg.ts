/**
 * A node takes another number, since its history is not the one that others remember.
 *
 * Invariants, and what would break them:
 * - a number is used by one history: the spare one was never written under, and one that somebody has seen in use is not taken. Without one, or with one that is
 *   used, a fresh number is drawn, for which all nodes have to be asked;
 * - what was written under the old number since the server was started has not left the node (edges wait for the confirmation), so it can be given dots
 *   of the new one; transactions that drew the old number before it changed are waited for first;
 * - what the old number stood for in the clocks of those writes is not known any more: it is left out, so a version that they replaced becomes a
 *   conflict record rather than being lost;
 * - all edges into the node begin anew: what it has lost comes back from the others.
 * Each step may be repeated: `former` is there until all is done.
 */
import type pg from 'pg';
import { listCollections } from '../collections/catalog.pg.ts';
import type { CollectionTable } from '../collections/definition.ts';
import { versionTable } from '../collections/trigger.ts';
import { PgquorumError } from '../errors/error.ts';
import { quoteName } from '../postgres/identifier.ts';
import { transaction } from '../postgres/transaction.pg.ts';
import { tellEvent } from '../events/tell.pg.ts';
import { runningEnded } from '../resync/slot.pg.ts';
import { beginResync } from '../resync/store.pg.ts';
import { keepMember, type PeerIdentity } from './adopt.pg.ts';

export interface RenumberingOptions {
  readonly peers: readonly (PeerIdentity & { readonly spare_used: boolean })[];
  /** Were all peers asked? */
  readonly all: boolean;
  readonly reason: string;
}

/** Writes are made under the new number from here on. */
export async function startRenumbering(
  client: pg.Client,
  own: PeerIdentity,
  { peers, all, reason }: RenumberingOptions,
): Promise<void> {
  await transaction(client, async () => {
    const { rows } = await client.query<{ number: number; fresh: number }>(
      `select n.number, (select max(m.number) + 1 from pgquorum.member m)::int as fresh from pgquorum.node n where n.number = $1 and n.former is null for update`,
      [own.number],
    );
    if (rows.length === 0) throw new PgquorumError('not_ready', 'the node takes another number already');
    // Where nothing was written since the start, what is noted is of the past that was confirmed.
    await client.query(
      `select setval('pgquorum.unconfirmed_us', 0) from pgquorum.node n, pgquorum.unconfirmed_us u where u.last_value = (extract(epoch from n.started) * 1000000)::bigint`,
    );
    const burnt = own.spare === null || peers.some((peer) => peer.spare_used);
    if (burnt && !all)
      throw new PgquorumError(
        'not_ready',
        'the node has no spare number, and all nodes have to be reached to give it one',
      );
    const fresh = Math.max(
      rows[0]!.fresh,
      ...peers.flatMap((peer) => [peer.number + 1, (peer.spare ?? 0) + 1]),
    );
    const number = burnt ? fresh : own.spare!;
    await client.query(
      `update pgquorum.node set former = number, number = $1, spare = null, started = null, identity_problem = $2,
         timeline = substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8),
         system_identifier = coalesce((select system_identifier::text from pg_control_system()), system_identifier)`,
      [number, reason],
    );
    await client.query(
      'insert into pgquorum.heartbeat (number, at) values ($1, clock_timestamp()) on conflict do nothing',
      [number],
    );
    await keepMember(client, { ...own, number, spare: null });
    await tellEvent(client, 'resync', {
      replica: number,
      former: own.number,
      happened: 'renumbered',
      reason,
    });
  });
}

/** What was written unconfirmed gets dots of the new number; then everything is asked of the others. */
export async function finishRenumbering(
  client: pg.Client,
  former: number,
  signal: AbortSignal,
): Promise<void> {
  await runningEnded(client, signal);
  const { rows } = await client.query<{ log: string; problem: string | null; since_ms: string }>(
    `select n.log, n.identity_problem as problem, case when u.last_value = 0 then null else (u.last_value / 1000)::text end as since_ms
     from pgquorum.node n, pgquorum.unconfirmed_us u`,
  );
  const { log, problem, since_ms: sinceMs } = rows[0]!;
  if (sinceMs !== null)
    for (const { table } of await listCollections(client))
      await client.query(restampSql(table), [former, sinceMs]);
  const reason = problem ?? 'it goes on under another number';
  const sources = await client.query<{ origin: number; log: string }>(
    `select origin, log from pgquorum.source where log <> 'capture' and state <> 'creating'`,
  );
  for (const { origin } of sources.rows)
    await beginResync(client, {
      origin,
      log,
      reason,
      // Positions in a topic are right also for a node that went back.
      phase: log === 'wal' ? 'noting' : 'copying',
      synced: null,
      again: true,
      wentBack: true,
    });
  await transaction(client, async () => {
    for (const table of ['source', 'progress'])
      await client.query(
        `update pgquorum.${table} t set origin = n.number from pgquorum.node n where t.log = 'capture' and t.origin = n.former`,
      );
    await client.query(`update pgquorum.source set state = 'creating' where log = 'capture'`);
    await client.query(`select setval('pgquorum.unconfirmed_us', pgquorum.server_start_us())`);
    await client.query(
      'update pgquorum.node set former = null, identity_problem = null, started = pg_postmaster_start_time()',
    );
  });
}

/** $1 the former number, $2 the start of the server that wrote unconfirmed, in ms. A write is never older than the clock of its server. */
function restampSql(table: CollectionTable): string {
  const version = versionTable(table);
  const keys = table.key.map((column) => `v.${quoteName(column.name)}`).join(', ');
  const same = table.key.map(({ name }) => `v.${quoteName(name)} = d.${quoteName(name)}`).join(' and ');
  const life = `v.origin || '.' || v.counter`;
  return `with locked as materialized (
      select ${keys} from ${version} v where v.origin = $1::smallint and (v.hlc >> 16) >= $2::bigint order by ${keys} for update
    ), d as materialized (select l.*, nextval('pgquorum.dot') as drawn from locked l)
    update ${version} v set origin = n.number, counter = d.drawn, applied = false,
      clock = (v.clock - $1::smallint::text) || jsonb_build_object(n.number, d.drawn),
      seen = (v.seen - $1::smallint::text) || jsonb_build_object(n.number, d.drawn),
      crdt = case when v.crdt ? (${life}) then (v.crdt - (${life})) || jsonb_build_object(n.number || '.' || d.drawn, v.crdt -> (${life})) else v.crdt end
    from d, pgquorum.node n where ${same}`;
}
