/** The SQL that reads a row as texts and writes it back. A text is what the type's output function gives, so that it reads back exactly. Pure. */
import type { CollectionTable } from '../collections/definition.ts';
import { quoteName, quoteTable, quoteText } from '../postgres/identifier.ts';

export interface TableColumn {
  readonly name: string;
  /** As SQL writes it, with its modifier: `vector(3)`, `text`. */
  readonly type: string;
}

/** Columns that can be written: generated ones follow from the others. $1 the schema, $2 the table. */
export const columnsSql = `select a.attname as name, format_type(a.atttypid, a.atttypmod) as type from pg_attribute a join pg_class c on c.oid = a.attrelid join pg_namespace n on n.oid = c.relnamespace
  where n.nspname = $1 and c.relname = $2 and a.attnum > 0 and not a.attisdropped and a.attgenerated = '' order by a.attnum`;

const tableOf = (table: CollectionTable) => quoteTable({ schema: table.schema, name: table.table });

/** Condition that the row of `alias` has the key whose texts are the JSON array $1. */
const hasKey = (table: CollectionTable, alias: string): string =>
  table.key
    .map((column, at) => `${alias}.${quoteName(column.name)} = ($1::jsonb ->> ${at})::${column.type}`)
    .join(' and ');

/** Locks the row of a key and gives it as JSON texts. $1 the key's texts. */
export function lockRowSql(table: CollectionTable, columns: readonly TableColumn[]): string {
  const texts = columns.map(
    ({ name }) =>
      `${quoteText(name)}, case when t.${quoteName(name)} is null then null else format('%s', t.${quoteName(name)}) end`,
  );
  return `select ${jsonObject(texts)} as row from ${tableOf(table)} t where ${hasKey(table, 't')} for update`;
}

/** A function takes at most 100 arguments: wide tables are put together. */
function jsonObject(pairs: readonly string[]): string {
  const parts: string[] = [];
  for (let at = 0; at < pairs.length; at += 40)
    parts.push(`jsonb_build_object(${pairs.slice(at, at + 40).join(', ')})`);
  return parts.join(' || ');
}

/** Locks the version of a key. $1 the key's texts. */
export const lockVersionSql = (table: CollectionTable): string =>
  `select v.rank, v.epoch::text as epoch, v.hlc::text as hlc, v.origin, v.counter::text as counter, v.clock, v.deleted, v.request, v.crdt, v.shard
   from pgquorum.${quoteName(`version_${table.collection}`)} v where ${hasKey(table, 'v')} for update`;

/** Writes a row from its JSON texts, $1. */
export function writeRowSql(table: CollectionTable, columns: readonly TableColumn[]): string {
  const names = columns.map((column) => quoteName(column.name));
  const keys = table.key.map((column) => quoteName(column.name));
  const changed = names.filter((name) => !keys.includes(name));
  const values = columns.map((column) => `($1::jsonb ->> ${quoteText(column.name)})::${column.type}`);
  const action =
    changed.length === 0
      ? 'nothing'
      : `update set ${changed.map((name) => `${name} = excluded.${name}`).join(', ')}`;
  return `insert into ${tableOf(table)} (${names.join(', ')}) overriding system value select ${values.join(', ')} on conflict (${keys.join(', ')}) do ${action}`;
}

/** Deletes the row of a key. $1 the key's texts. */
export const deleteRowSql = (table: CollectionTable): string =>
  `delete from ${tableOf(table)} t where ${hasKey(table, 't')}`;
