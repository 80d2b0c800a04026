/** SQL text of the apply transaction, made once per table. Every batch is arrays: one statement serves any size. Pure. */
import { versionTable } from '../collections/trigger.ts';
import { conflictColumns, advancesSql } from '../conflicts/record.ts';
import { quoteName, quoteTable, quoteText } from '../postgres/identifier.ts';
import { missingColumns } from './missing-column.ts';
import type { TargetColumn, TargetTable } from './target-table.ts';

const names = (count: number, prefix: string): string[] =>
  Array.from({ length: count }, (_, at) => `${prefix}${at}`);
const parameters = (types: readonly string[], first = 1): string =>
  types.map((type, at) => `$${at + first}::${type}[]`).join(', ');

/** Keys come as arrays of canonical texts, one per key column: `u(k0, k1, …)`, cast in comparisons. */
function keySource(table: TargetTable): {
  from: string;
  match: (alias: string) => string;
  order: (alias: string) => string;
  columns: (alias: string) => string;
} {
  const columns = names(table.key.length, 'k');
  return {
    from: `(select distinct ${table.key.map((key, at) => `u.k${at}::${key.type} as k${at}`).join(', ')} from unnest(${parameters(table.key.map(() => 'text'))}) u(${columns.join(', ')})) u`,
    match: (alias) => table.key.map((key, at) => `${alias}.${quoteName(key.name)} = u.k${at}`).join(' and '),
    order: (alias) => table.key.map((key) => `${alias}.${quoteName(key.name)}`).join(', '),
    columns: (alias) => table.key.map((key) => `${alias}.${quoteName(key.name)}::text`).join(', '),
  };
}

/** Places of keys, in key order. */
export function keyOrderSql(table: TargetTable): string {
  const keys = table.key.map((key, at) => `u.k${at}::${key.type}`).join(', ');
  return `select string_agg((u.ord - 1)::text, ' ' order by ${keys}) as places from unnest(${parameters(table.key.map(() => 'text'))}) with ordinality u(${names(table.key.length, 'k').join(', ')}, ord)`;
}

/**
 * Rows of a table that have one of the keys. Of a key of one column all are looked up at once: neighbours share a descent of the index (from
 * Postgres 17 on), which takes a third of looking up one by one.
 */
function keyed(table: TargetTable, relation: string, alias: string): { from: string; where: string } {
  const [only, ...others] = table.key;
  // Arrays of created types are cast in other ways.
  if (others.length === 0 && only!.type.startsWith('pg_catalog.'))
    return {
      from: `${relation} ${alias}`,
      where: `${alias}.${quoteName(only!.name)} = any($1::text[]::${only!.type}[])`,
    };
  const key = keySource(table);
  return { from: `${relation} ${alias} join ${key.from} on ${key.match(alias)}`, where: 'true' };
}

export const beginSql = (options: {
  readonly lockTimeoutMs: number;
  readonly replicaRole: boolean;
}): string =>
  `begin isolation level read committed; set local lock_timeout = ${options.lockTimeoutMs}; set local pgquorum.apply = 'on'${options.replicaRole ? '; set local session_replication_role = replica' : ''}`;

/**
 * Users' triggers that run during apply and may change what is written, and how many columns there are. Asked every time, under the locks: a definition that is
 * some seconds old would miss a new one.
 */
export const tableNowSql = (table: TargetTable, replicaRole: boolean): string =>
  `select r.relnatts, exists (select from pg_trigger g where g.tgrelid = r.oid and not g.tgisinternal and g.tgname not like 'pgquorum\\_%' and g.tgenabled in ('A', '${replicaRole ? 'R' : 'O'}')) from pg_class r where r.oid = ${quoteText(quoteTable({ schema: table.schema, name: table.table }))}::regclass`;

export const checkShardsSql = `select shard, role from pgquorum.shard_role where collection = $1 and shard = any($2::int[]) order by shard for share`;

export function lockRowsSql(table: TargetTable): string {
  const key = keySource(table);
  const { from, where } = keyed(table, quoteTable({ schema: table.schema, name: table.table }), 't');
  return `select ${key.columns('t')} from ${from} where ${where} order by ${key.order('t')} for update of t`;
}

/** Only versions of keys that have a row: locking a tombstone before its row exists would deadlock with a user's insert. */
export function lockVersionsSql(table: TargetTable): string {
  const key = keySource(table);
  const same = table.key
    .map((column) => `t.${quoteName(column.name)} = v.${quoteName(column.name)}`)
    .join(' and ');
  const { from, where } = keyed(table, versionTable(table), 'v');
  return `select from ${from} where ${where} and exists (select from ${quoteTable({ schema: table.schema, name: table.table })} t where ${same}) order by ${key.order('v')} for update of v`;
}

export function readVersionsSql(table: TargetTable): string {
  const key = keySource(table);
  const { from, where } = keyed(table, versionTable(table), 'v');
  return `select ${key.columns('v')}, v.rank, v.epoch::text, v.hlc::text, v.origin, v.counter::text, v.clock::text, v.seen::text, v.deleted, v.request, v.crdt::text from ${from} where ${where}`;
}

/** Keys whose row and version disagree within one snapshot. */
export function disagreeingSql(table: TargetTable): string {
  const key = keySource(table);
  const same = table.key
    .map((column) => `t.${quoteName(column.name)} = v.${quoteName(column.name)}`)
    .join(' and ');
  return `select ${key.columns('v')} from ${versionTable(table)} v join ${key.from} on ${key.match('v')} where v.deleted = exists (select from ${quoteTable({ schema: table.schema, name: table.table })} t where ${same})`;
}

export function deleteRowsSql(table: TargetTable): string {
  const key = keySource(table);
  return `delete from ${quoteTable({ schema: table.schema, name: table.table })} t using ${key.from} where ${key.match('t')}`;
}

const targetList = (columns: readonly TargetColumn[]): string =>
  columns.map((column) => quoteName(column.name)).join(', ');

function onConflict(table: TargetTable, columns: readonly TargetColumn[]): string {
  const keys = table.key.map((key) => quoteName(key.name));
  const others = columns
    .filter((column) => !table.key.some((key) => key.name === column.name))
    .map((column) => quoteName(column.name));
  const missing = missingColumns(table, columns).map((column) => quoteName(column.name));
  const action =
    others.length + missing.length === 0
      ? 'do nothing'
      : `do update set ${[...others.map((name) => `${name} = excluded.${name}`), ...missing.map((name) => `${name} = default`)].join(', ')}`;
  return `on conflict (${keys.join(', ')}) ${action}`;
}

/** Rows that have more than the default in a column that their origin lacks, in words that need no operator of its type. */
export function holdingSql(table: TargetTable, missing: readonly TargetColumn[]): string {
  const key = keySource(table);
  const held = missing.map(
    (column) =>
      `t.${quoteName(column.name)}::text is distinct from (${column.missing.kind === 'fill' ? column.missing.sql : 'null'})::${column.sqlType}::text`,
  );
  return `select from ${quoteTable({ schema: table.schema, name: table.table })} t join ${key.from} on ${key.match('t')} where ${held.join(' or ')} limit 1`;
}

/** Rows as one array per column. Not for columns that are arrays themselves: Postgres has no array of arrays. */
export function upsertRowsSql(table: TargetTable, columns: readonly TargetColumn[]): string {
  const fields = names(columns.length, 'c');
  const order = table.key
    .map((key) => `u.c${columns.findIndex((column) => column.name === key.name)}`)
    .join(', ');
  return `insert into ${quoteTable({ schema: table.schema, name: table.table })} (${targetList(columns)}) overriding system value
    select ${fields.map((field) => `u.${field}`).join(', ')} from unnest(${parameters(columns.map((column) => column.sqlType))}) u(${fields.join(', ')}) order by ${order} ${onConflict(table, columns)}`;
}

const valuesList = (columns: readonly TargetColumn[], rows: number): string =>
  Array.from(
    { length: rows },
    (_, row) =>
      `(${columns.map((column, at) => `$${row * columns.length + at + 1}::${column.sqlType}`).join(', ')})`,
  ).join(', ');

/** New rows, in the binary format of copy. */
export const copyRowsSql = (table: TargetTable, columns: readonly TargetColumn[]): string =>
  `copy ${quoteTable({ schema: table.schema, name: table.table })} (${targetList(columns)}) from stdin (format binary)`;

/** Rows as one parameter per value. */
export function upsertValuesSql(table: TargetTable, columns: readonly TargetColumn[], rows: number): string {
  return `insert into ${quoteTable({ schema: table.schema, name: table.table })} (${targetList(columns)}) overriding system value values ${valuesList(columns, rows)} ${onConflict(table, columns)}`;
}

/** Digest of what now stands in the rows and of what was sent, to find out whether somebody's trigger changed it. */
export function compareRowsSql(table: TargetTable, columns: readonly TargetColumn[]): string {
  const fields = names(columns.length, 'c');
  const match = table.key
    .map((key) => `t.${quoteName(key.name)} = u.c${columns.findIndex((column) => column.name === key.name)}`)
    .join(' and ');
  return `select ${table.key.map((key) => `u.c${columns.findIndex((column) => column.name === key.name)}::text`).join(', ')}
    from unnest(${parameters(columns.map((column) => column.sqlType))}) u(${fields.join(', ')}) left join ${quoteTable({ schema: table.schema, name: table.table })} t on ${match}
    where (${columns.map((column) => `t.${quoteName(column.name)}::text`).join(', ')}) is distinct from (${fields.map((field) => `u.${field}::text`).join(', ')})`;
}

/** The same for rows that went as one parameter per value. */
export function compareValuesSql(table: TargetTable, columns: readonly TargetColumn[], rows: number): string {
  const fields = names(columns.length, 'c');
  const match = table.key
    .map((key) => `t.${quoteName(key.name)} = u.c${columns.findIndex((column) => column.name === key.name)}`)
    .join(' and ');
  return `select from (values ${valuesList(columns, rows)}) u(${fields.join(', ')}) left join ${quoteTable({ schema: table.schema, name: table.table })} t on ${match}
    where (${columns.map((column) => `t.${quoteName(column.name)}::text`).join(', ')}) is distinct from (${fields.map((field) => `u.${field}::text`).join(', ')})`;
}

/** A row as JSON, column name to text form. */
export function rowJsonSql(
  columns: readonly TargetColumn[],
  value: (column: TargetColumn, at: number) => string,
): string {
  // A function takes at most 100 arguments: wide tables are put together.
  const pairs = columns.map((column, at) => `${quoteText(column.name)}, (${value(column, at)})::text`);
  return Array.from(
    { length: Math.ceil(pairs.length / 40) },
    (_, part) => `jsonb_build_object(${pairs.slice(part * 40, part * 40 + 40).join(', ')})`,
  ).join(' || ');
}

/** Of losing rows that came in as arrays. */
export function incomingJsonSql(columns: readonly TargetColumn[]): string {
  const fields = names(columns.length, 'c');
  return `select (${rowJsonSql(columns, (_, at) => `u.c${at}`)})::text as row from unnest(${parameters(columns.map((column) => column.sqlType))}) with ordinality u(${fields.join(', ')}, ord) order by u.ord`;
}

/** The same of rows that stand in the table. */
export function localJsonSql(table: TargetTable): string {
  const key = keySource(table);
  const columns = table.columns.filter((column) => !column.generated);
  return `select ${key.columns('t')}, (${rowJsonSql(columns, (column) => `t.${quoteName(column.name)}`)})::text as row from ${quoteTable({ schema: table.schema, name: table.table })} t join ${key.from} on ${key.match('t')}`;
}

const versionFields: readonly (readonly [string, string])[] = [
  ['rank', 'smallint'],
  ['epoch', 'bigint'],
  ['hlc', 'bigint'],
  ['origin', 'smallint'],
  ['counter', 'bigint'],
  ['clock', 'jsonb'],
  ['seen', 'jsonb'],
  ['deleted', 'boolean'],
  ['request', 'uuid'],
  ['crdt', 'jsonb'],
];

/** Fails by dividing by zero unless it wrote a version for each key: a local write slipped in. The keys are its first parameter. */
const allWritten = (writing: string): string =>
  `with written as (${writing} returning 1) select 1 / (count(*) = cardinality($1))::int from written`;

/** Compare-and-set against what was read: dot and seen. */
export function updateVersionsSql(table: TargetTable): string {
  const keys = table.key.map(() => 'text');
  const types = [...keys, ...versionFields.map(([, type]) => type), 'smallint', 'bigint', 'jsonb'];
  const fields = [
    ...names(keys.length, 'k'),
    ...versionFields.map(([name]) => name),
    'read_origin',
    'read_counter',
    'read_seen',
  ];
  const match = table.key.map((key, at) => `v.${quoteName(key.name)} = u.k${at}::${key.type}`).join(' and ');
  return allWritten(`update ${versionTable(table)} v set ${versionFields.map(([name]) => `${name} = u.${name}`).join(', ')}, applied = true
    from unnest(${parameters(types)}) u(${fields.join(', ')})
    where ${match} and v.origin = u.read_origin and v.counter = u.read_counter and coalesce(v.seen, v.clock) = u.read_seen`);
}

export function insertVersionsSql(table: TargetTable): string {
  const keys = table.key.map(() => 'text');
  const types = [...keys, ...versionFields.map(([, type]) => type), 'integer'];
  const fields = [...names(keys.length, 'k'), ...versionFields.map(([name]) => name), 'shard'];
  return allWritten(`insert into ${versionTable(table)} (${table.key.map((key) => quoteName(key.name)).join(', ')}, ${versionFields.map(([name]) => name).join(', ')}, shard, applied)
    select ${table.key.map((key, at) => `u.k${at}::${key.type}`).join(', ')}, ${versionFields.map(([name]) => `u.${name}`).join(', ')}, u.shard, true
    from unnest(${parameters(types)}) u(${fields.join(', ')}) order by ${table.key.map((_, at) => `u.k${at}`).join(', ')} on conflict do nothing`);
}

/** New versions, in the text format of copy. */
export const copyVersionsSql = (table: TargetTable): string =>
  `copy ${versionTable(table)} (${table.key.map((key) => quoteName(key.name)).join(', ')}, ${versionFields.map(([name]) => name).join(', ')}, shard, applied) from stdin`;

const conflictList = conflictColumns.join(', ');

/**
 * Siblings stay open until a call resolves them, also when something has been written over them; so masters that never held them cannot find them, and
 * whoever adds one publishes it.
 */
const keepsSiblingsSql = (collection: string): string =>
  `exists (select from pgquorum.collection s where s.name = ${collection} and s.definition -> 'conflicts' ->> 'strategy' = 'vector-clock')`;

const isNewSibling = `r.id = any($2::uuid[]) and r.kind <> 'returned' and ${keepsSiblingsSql('r.collection')}`;
const storedState = `case when r.state = 'superseded' and ${isNewSibling} then 'open' else r.state end`;

/** Only who is sent a purged version once more finds it. */
const isPublished = `((${isNewSibling}) or (r.kind = 'returned' and r.id = any($2::uuid[])))`;

/** $1 records found here or received, $2 the ids of the former: new ones are kept, known ones only advance. */
export const upsertConflictsSql = `insert into pgquorum.conflict as old (${conflictList}, applied)
  select ${conflictColumns.map((name) => (name === 'state' ? storedState : `r.${name}`)).join(', ')}, not ${isPublished}
  from jsonb_populate_recordset(null::pgquorum.conflict, $1::jsonb) r order by r.id
  on conflict (id) do update set state = excluded.state, state_hlc = excluded.state_hlc, state_origin = excluded.state_origin, decided_by = excluded.decided_by, reason = excluded.reason, applied = true
  where ${advancesSql('excluded', 'old')}`;

export const supersedeSql = `update pgquorum.conflict c set state = 'superseded', state_hlc = $2, state_origin = $3, applied = true where c.id = any($1::uuid[]) and c.state = 'open' and not ${keepsSiblingsSql('c.collection')}`;

export const withdrawSql = `delete from pgquorum.conflict c where c.id = any($1::uuid[]) and c.state = 'open'`;

export const rememberRequestsSql = `insert into pgquorum.request (collection, key, request, origin, counter, hlc, clock)
  select $1, u.key, u.request, u.origin, u.counter, u.hlc, u.clock from unnest($2::text[], $3::uuid[], $4::smallint[], $5::bigint[], $6::bigint[], $7::jsonb[]) u(key, request, origin, counter, hlc, clock) order by 2, 3 on conflict do nothing`;

/** What the writes of all requests of some keys had seen. */
export const requestClocksSql = `select r.key, r.request::text as request, r.origin, r.counter::text as counter, r.hlc::text as hlc, r.clock from pgquorum.request r where r.collection = $1 and r.key = any($2::text[]) and r.clock is not null`;

export const knownRequestsSql = `select r.key, r.request::text as request, r.origin, r.counter::text as counter, r.hlc::text as hlc from pgquorum.request r join unnest($2::text[], $3::uuid[]) u(key, request) on r.key = u.key and r.request = u.request where r.collection = $1`;

export const progressSql = `insert into pgquorum.progress as p (origin, log, stream, lane, position, commit_time, changes)
  select $1, $2, u.stream, $3, u.position, to_timestamp(u.commit_ms / 1000.0), u.changes from unnest($4::int[], $5::bigint[], $6::bigint[], $7::bigint[]) u(stream, position, commit_ms, changes)
  on conflict (origin, log, stream, lane) do update set position = greatest(p.position, excluded.position), commit_time = greatest(p.commit_time, excluded.commit_time), changes = p.changes + excluded.changes`;
