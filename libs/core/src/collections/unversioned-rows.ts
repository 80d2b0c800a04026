/**
 * Versions for rows that have none: those that were there before their table was attached, and what is written behind the triggers' back. They get a dot
 * of this node and the lowest hlc that they can have, or the time that the row itself gives for its last write, so that any real write beats them. Pure.
 *
 * No row is locked for that. A write that is under way has its version, or waits for ours and then dominates it: either way the version that a key is
 * given here belongs to the row as this statement's snapshot shows it.
 */
import { quoteName, quoteTable, quoteText } from '../postgres/identifier.ts';
import type { CollectionTable } from './definition.ts';
import { shardSql, versionTable } from './trigger.ts';

export interface StampedTable extends CollectionTable {
  /** The column with the time of a row's last write. */
  readonly updatedAt: string | null;
}

/** A time that is yet to come counts as now, one that is missing or infinite as the lowest. */
export function unversionedHlcSql({ collection, updatedAt }: StampedTable, alias: string): string {
  const floor = `coalesce((n.floors ->> ${quoteText(collection)})::bigint, 0)`;
  if (updatedAt === null) return floor;
  const column = `${alias}.${quoteName(updatedAt)}`;
  const ms = (time: string): string => `(extract(epoch from ${time}) * 1000)::bigint`;
  return `greatest(${floor}, case when isfinite(${column}) then greatest(0, least(${ms(column)}, ${ms('clock_timestamp()')})) << 16 else 0 end)`;
}

const versionColumns =
  'rank, epoch, hlc, origin, counter, clock, seen, deleted, applied, shard, request, crdt';

const keys = (table: CollectionTable, prefix: string): string =>
  table.key.map(({ name }) => `${prefix}${quoteName(name)}`).join(', ');
export const sameKey = (table: CollectionTable, a: string, b: string): string =>
  table.key.map(({ name }) => `${a}${quoteName(name)} = ${b}${quoteName(name)}`).join(' and ');
const targetOf = (table: CollectionTable): string => quoteTable({ schema: table.schema, name: table.table });

/**
 * Stamps those rows of `source` (aliased t, with the table's columns) that have no version.
 * `fresh` are the rows with their new dots, `inserted` the keys that got them.
 */
export const stampCtes = (table: StampedTable, source: string, more = ''): string =>
  `fresh as materialized (
     select ${keys(table, 't.')}, ${unversionedHlcSql(table, 't')} as pgquorum_hlc, n.number as pgquorum_origin, nextval('pgquorum.dot') as pgquorum_counter${more}
     from ${source} cross join pgquorum.identity n where not exists (select from ${versionTable(table)} v where ${sameKey(table, 'v.', 't.')})
   ), inserted as (
     insert into ${versionTable(table)} (${keys(table, '')}, ${versionColumns})
     select ${keys(table, 'f.')}, 0, 0, f.pgquorum_hlc, f.pgquorum_origin, f.pgquorum_counter, jsonb_build_object(f.pgquorum_origin, f.pgquorum_counter), null, false, false, ${shardSql(table, 'f.')}, null, null
     from fresh f order by ${keys(table, 'f.')} on conflict do nothing returning ${keys(table, '')}
   )`;

/** The next rows in key order. Parameters: the key's texts after which they come, if `after`, then how many. */
export function nextRowsSql(table: CollectionTable, after: boolean): string {
  const place = table.key.map(({ type }, at) => `$${at + 1}::text::${type}`).join(', ');
  return `select * from ${targetOf(table)} t${after ? ` where (${keys(table, 't.')}) > (${place})` : ''} order by ${keys(table, 't.')} limit $${after ? table.key.length + 1 : 1}`;
}

/** The row as a text that is the same on every master. `columns` are those that can be written. */
export const rowHashSql = (columns: readonly string[], alias: string): string =>
  `encode(sha256(convert_to(row(${columns
    .toSorted()
    .map((name) => `${alias}.${quoteName(name)}`)
    .join(', ')})::text, 'UTF8')), 'hex')`;

export const keyTextsSql = (table: CollectionTable, alias: string): string =>
  `array[${table.key.map(({ name }) => `${alias}${quoteName(name)}::text`).join(', ')}]`;

/** One batch of the backfill; with `hashed` columns the new versions come back with the hashes of their rows. */
export function stampNextSql(table: StampedTable, after: boolean, hashed: readonly string[] | null): string {
  const hash = hashed === null ? '' : `, ${rowHashSql(hashed, 't')} as pgquorum_row`;
  const stamped = `jsonb_build_object('key', ${keyTextsSql(table, 'f.')}, 'hlc', f.pgquorum_hlc::text, 'origin', f.pgquorum_origin, 'counter', f.pgquorum_counter::text, 'row', ${hashed === null ? 'null' : 'f.pgquorum_row'})`;
  return `with batch as materialized (${nextRowsSql(table, after)}), ${stampCtes(table, 'batch t', hash)}
   select (select count(*)::int from batch) as scanned, (select count(*)::int from inserted) as stamped,
     (select ${keyTextsSql(table, 'b.')} from batch b order by ${table.key.map(({ name }) => `b.${quoteName(name)} desc`).join(', ')} limit 1) as last,
     ${hashed === null ? 'null' : `(select jsonb_agg(${stamped}) from fresh f join inserted i on ${sameKey(table, 'f.', 'i.')})`} as versions`;
}

/** The key after a place, to go past a row that stays in use. Parameters as of nextRowsSql. */
export const nextKeySql = (table: CollectionTable, after: boolean): string =>
  `select ${keyTextsSql(table, 't.')} as key from (${nextRowsSql(table, after)}) t`;

/**
 * Gives rows that are the same here as there the version that they have there. $1 what stampNextSql gave. They count as replicated: nothing has to be
 * sent. Answers with the keys that took it.
 */
export const agreeSql = (table: CollectionTable, columns: readonly string[]): string =>
  `insert into ${versionTable(table)} (${keys(table, '')}, ${versionColumns})
   select ${keys(table, 't.')}, 0, 0, (u.version ->> 'hlc')::bigint, (u.version ->> 'origin')::smallint, (u.version ->> 'counter')::bigint, jsonb_build_object(u.version ->> 'origin', (u.version ->> 'counter')::bigint), null, false, true, ${shardSql(table, 't.')}, null, null
   from jsonb_array_elements($1::jsonb) u(version) join ${targetOf(table)} t on ${table.key.map(({ name, type }, at) => `t.${quoteName(name)} = (u.version -> 'key' ->> ${at})::${type}`).join(' and ')}
   where ${rowHashSql(columns, 't')} = u.version ->> 'row' order by ${keys(table, 't.')} on conflict do nothing returning ${keyTextsSql(table, '')} as key`;

/** Marks versions of this transaction as not to be sent: all others have them. Parameters: an array for each key column. */
export const keepHereSql = (table: CollectionTable): string =>
  `update ${versionTable(table)} v set applied = true from unnest(${table.key.map((_, at) => `$${at + 1}::text[]`).join(', ')}) u(${table.key.map((_, at) => `k${at}`).join(', ')})
   where ${table.key.map(({ name, type }, at) => `v.${quoteName(name)} = u.k${at}::${type}`).join(' and ')}`;
