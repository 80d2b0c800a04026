/**
 * Gives the conflict records that are there the columns that their table has got since.
 *
 * A record is made on each master by itself: of the row as it stands where the loser was written or applied, of the row as it came elsewhere. If a column comes to a
 * table meanwhile, one of them has it and the other one has not. Invariant: a record has every column of its table that rows of before the column could be given the
 * same value everywhere; pgquorum.completed_row has the rule. New records are completed by a trigger, which holds the table against changes until its
 * transaction ends; so whoever reads the columns after that and then completes all records misses none.
 */
import type pg from 'pg';
import { quoteTable } from '../postgres/identifier.ts';
import { sqlStateOf } from '../postgres/sqlstate.ts';
import { transaction } from '../postgres/transaction.pg.ts';

const rowsPerStep = 500;
/** Below Postgres's deadlock_timeout: whoever alters the table, or writes, is given way to. */
const lockTimeoutMs = 400;
const firstId = '00000000-0000-0000-0000-000000000000';

interface Changed {
  readonly name: string;
  readonly schema: string;
  readonly table: string;
  readonly shape: string[];
  /** What a row is given a value for. */
  readonly columns: string[];
}

/** Of which no record was looked at since they have the columns that they have. */
const changedSql = `select c.name, c.table_schema as schema, c.table_name as table, t.shape, t.columns
  from pgquorum.collection c
  join lateral (select r.oid::text || array_agg(a.attnum || ' ' || a.attname order by a.attnum) as shape,
      coalesce(array_agg(a.attname::text order by a.attnum) filter (where a.attgenerated = '' and a.attidentity = ''), '{}') as columns
    from pg_class r join pg_attribute a on a.attrelid = r.oid
    where r.oid = to_regclass(format('%I.%I', c.table_schema, c.table_name)) and a.attnum > 0 and not a.attisdropped group by r.oid) t on true
  left join pgquorum.record_shape s on s.collection = c.name
  where s.columns is distinct from t.shape`;

const stepSql = `with read as (select c.id, c.loser_row as row from pgquorum.conflict c where c.collection = $1 and c.id > $2 order by c.id limit ${rowsPerStep}),
    changed as (update pgquorum.conflict c set loser_row = pgquorum.completed_row(c.collection, c.loser_row), applied = true
      from read s where c.id = s.id and s.row is not null and not s.row ?& $3::text[] returning c.id)
  select (select max(s.id::text) from read s) as last, (select count(*)::int from changed) as completed`;

/** How many were completed. What somebody holds is left for the next time. */
export async function completeRecords(client: pg.Client): Promise<number> {
  await client.query(
    'delete from pgquorum.record_shape s where not exists (select from pgquorum.collection c where c.name = s.collection)',
  );
  let completed = 0;
  for (const changed of (await client.query<Changed>(changedSql)).rows) {
    try {
      completed += await completeOf(client, changed);
    } catch (cause) {
      if (!['55P03', '40P01', '42P01'].includes(sqlStateOf(cause) ?? '')) throw cause; // held, or dropped meanwhile
    }
  }
  return completed;
}

async function completeOf(
  client: pg.Client,
  { name, schema, table, shape, columns }: Changed,
): Promise<number> {
  let completed = 0;
  let after: string | null = firstId;
  while (after !== null) {
    const step = await transaction(client, async () => {
      await client.query(`set local lock_timeout = ${lockTimeoutMs}`);
      // Before the records, as all others take them.
      await client.query(`lock table ${quoteTable({ schema, name: table })} in access share mode`);
      return client.query<{ last: string | null; completed: number }>(stepSql, [name, after, columns]);
    });
    after = step.rows[0]!.last;
    completed += step.rows[0]!.completed;
  }
  await client.query(
    'insert into pgquorum.record_shape (collection, columns) values ($1, $2) on conflict (collection) do update set columns = excluded.columns',
    [name, shape],
  );
  return completed;
}
