/**
 * The purge horizon of a shard on one node, and the tombstones under it. The contract, for whoever decides what may go (versioning/purge.ts has the rule):
 *
 * 1. `askCounter` on every holder, after asking what it has merged, gives the reports for `nextRound`.
 * 2. When a round gives a clock: `raiseHorizon` to it on EVERY holder of the shard, each in a transaction that commits with `synchronous_commit = on`.
 * 3. Only once all of them are committed: `deleteTombstones` on each with the same clock, in steps, until it deletes fewer than asked for. If the
 *    coordinator is lost in between, or any holder did not answer, the next one begins with 2. again, with this clock or a greater one.
 *
 * Nobody else writes pgquorum.horizon for a shard. No lock is needed beyond the rows': horizons only rise, so two coordinators do no harm; apply reads the
 * horizon after the versions, so a version that it no longer finds is under the horizon that it finds; and a tombstone that is deleted under somebody's
 * feet is noticed by compare-and-set (apply) or written as a new version (triggers).
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type pg from 'pg';
import type { CollectionTable } from '../collections/definition.ts';
import { keyTextSql, versionTable } from '../collections/trigger.ts';
import { PgquorumError } from '../errors/error.ts';
import { quoteName, quoteTable } from '../postgres/identifier.ts';
import type { Clock } from '../versioning/clock.ts';
import type { PurgeHorizon } from '../versioning/purge.ts';
import type { HlcValue, ShardNumber } from '../versioning/version.ts';

export interface ShardOf {
  readonly table: CollectionTable;
  readonly shard: ShardNumber;
}

/**
 * What counts as absent under the clock that the SQL expression gives: `isPurged` in SQL, without the row's absence. `alias` is of the version table.
 * Comparisons between holders leave such versions out on each side.
 */
export const purgedSql = (table: CollectionTable, alias: string, clock: string): string =>
  `${alias}.deleted and pgquorum.clock_includes(${clock}, coalesce(${alias}.seen, ${alias}.clock))
   and not exists (select from pgquorum.conflict c where c.collection = '${table.collection.replaceAll("'", "''")}' and c.key = ${keyTextSql(table, `${alias}.`)} and c.state = 'open')`;

export async function readHorizon(
  client: pg.ClientBase,
  { table, shard }: ShardOf,
): Promise<PurgeHorizon | null> {
  const { rows } = await client.query<{ clock: Clock; hlc: string }>(
    'select h.clock, h.hlc::text as hlc from pgquorum.horizon h where h.collection = $1 and h.shard = $2',
    [table.collection, shard],
  );
  return rows[0] === undefined ? null : { clock: rows[0].clock, hlc: BigInt(rows[0].hlc) as HlcValue };
}

/** Raises the horizon of a shard here, in the caller's transaction or in one of its own. What it is already under stays. */
export async function raiseHorizon(
  client: pg.ClientBase,
  { table, shard }: ShardOf,
  clock: Clock,
): Promise<void> {
  await client.query(
    `insert into pgquorum.horizon as h (collection, shard, hlc, clock)
     select $1, $2::int, coalesce((select max(v.hlc) + 1 from ${versionTable(table)} v where v.shard = $2::int and ${purgedSql(table, 'v', '$3::jsonb')}), 0), $3::jsonb
     on conflict (collection, shard) do update set clock = pgquorum.clock_join(h.clock, excluded.clock), hlc = greatest(h.hlc, excluded.hlc)`,
    [table.collection, shard, JSON.stringify(clock)],
  );
}

export interface DeleteTombstones extends ShardOf {
  /** The clock to which every holder has raised its horizon. */
  readonly clock: Clock;
  readonly limit: number;
}

/**
 * Deletes tombstones that count for nothing any more, at most `limit`. Leaves out what somebody has locked: it is about to be written. Gives their number.
 */
export async function deleteTombstones(
  client: pg.ClientBase,
  { table, shard, clock, limit }: DeleteTombstones,
): Promise<number> {
  const horizon = await readHorizon(client, { table, shard });
  const missing = Object.keys(clock).some((node) => (horizon?.clock[node] ?? 0) < clock[node]!);
  if (missing)
    throw new PgquorumError(
      'invariant_broken',
      `tombstones of ${table.collection}, shard ${shard}, were to be deleted above its purge horizon`,
    );
  const keys = table.key.map(({ name }) => quoteName(name));
  const match = (a: string, b: string) => keys.map((key) => `${a}.${key} = ${b}.${key}`).join(' and ');
  const rowed = `exists (select from ${quoteTable({ schema: table.schema, name: table.table })} t where ${match('t', 'v')})`;
  // What was locked first is looked at again as it is then: the conditions are those of the row that was locked.
  const deleted = await client.query(
    `delete from ${versionTable(table)} d using (
       select ${keys.map((key) => `v.${key}`).join(', ')}, v.origin, v.counter from ${versionTable(table)} v
       where v.shard = $1 and ${purgedSql(table, 'v', '$2::jsonb')} and not ${rowed} limit $3 for update of v skip locked) v
     where ${match('d', 'v')} and d.deleted and d.origin = v.origin and d.counter = v.counter`,
    [shard, JSON.stringify(clock), limit],
  );
  return deleted.rowCount ?? 0;
}

/**
 * The counter that this node's own writes have reached: all with one up to it are committed or never will be. Waits for the transactions that have drawn
 * one and are still open, so a long one holds purging up, and nothing else. Not inside a transaction.
 */
export async function askCounter(client: pg.ClientBase, signal: AbortSignal): Promise<number> {
  const asked = await client.query<{ counter: string }>(
    'select case when d.is_called then d.last_value else d.last_value - 1 end::text as counter from pgquorum.dot d',
  );
  // Whoever draws from a sequence holds this lock to the end of the transaction.
  for (let open: readonly string[] | null = null; ;) {
    const drawing: pg.QueryResult<{ transaction: string }> = await client.query(
      `select l.virtualtransaction as transaction from pg_locks l where l.locktype = 'relation' and l.relation = 'pgquorum.dot'::regclass and l.mode = 'RowExclusiveLock' and l.granted
         and l.database = (select d.oid from pg_database d where d.datname = current_database()) and ($1::text[] is null or l.virtualtransaction = any($1))`,
      [open],
    );
    open = drawing.rows.map((row) => row.transaction);
    if (open.length === 0) return Number(asked.rows[0]!.counter);
    await sleep(50, undefined, { signal });
  }
}
