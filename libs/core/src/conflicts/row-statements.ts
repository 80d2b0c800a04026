/** The SQL that reads a row as texts and writes it back. A text is what the type's output function gives, so that it reads back exactly. Pure. */
import type { CollectionTable } from '../collections/definition.ts';
import { versionTable } from '../collections/trigger.ts';
import { quoteName, quoteTable, quoteText } from '../postgres/identifier.ts';

/** Column name -> Postgres text form. */
export type RowTexts = Readonly<Record<string, string | null>>;

export interface TableColumn {
  readonly name: string;
  /** As SQL writes it, with its modifier: `vector(3)`, `text`. */
  readonly type: string;
  /** An identity that Postgres alone gives: can be inserted, never updated. */
  readonly fixed: boolean;
  /** The name of its type when that is pgvector's for dense vectors. */
  readonly vector: 'vector' | 'halfvec' | null;
  /** It is pgvector's sparsevec. */
  readonly sparse?: boolean;
}

/** Columns that can be written: generated ones follow from the others. $1 the schema, $2 the table. */
export const columnsSql = `select a.attname as name, format_type(a.atttypid, a.atttypmod) as type, a.attidentity = 'a' as fixed,
  (select y.typname from pg_type y where y.oid = a.atttypid and y.typname in ('vector', 'halfvec')) as vector,
  exists (select from pg_type y where y.oid = a.atttypid and y.typname = 'sparsevec') as sparse from pg_attribute a join pg_class c on c.oid = a.attrelid join pg_namespace n on n.oid = c.relnamespace
  where n.nspname = $1 and c.relname = $2 and a.attnum > 0 and not a.attisdropped and a.attgenerated = '' order by a.attnum`;

const tableOf = (table: CollectionTable) => quoteTable({ schema: table.schema, name: table.table });

/** Condition that the row of `alias` has the key whose texts are the JSON array $1. */
const hasKey = (table: CollectionTable, alias: string): string =>
  table.key
    .map((column, at) => `${alias}.${quoteName(column.name)} = ($1::jsonb ->> ${at})::${column.type}`)
    .join(' and ');

/** Locks the row of a key and gives it as JSON texts. $1 the key's texts. */
export const lockRowSql = (table: CollectionTable, columns: readonly TableColumn[]): string =>
  `select ${rowTextsSql(columns, 't')} as row from ${tableOf(table)} t where ${hasKey(table, 't')} for update`;

/** The row of an alias as JSON texts, as conflict records keep rows. */
export const rowTextsSql = (columns: readonly TableColumn[], alias: string): string =>
  jsonObject(
    columns.map(({ name }) => {
      const value = `${alias}.${quoteName(name)}`;
      return `${quoteText(name)}, case when ${value} is null then null else format('%s', ${value}) end`;
    }),
  );

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
   from ${versionTable(table)} v where ${hasKey(table, 'v')} for update`;

const changeable = (table: CollectionTable, columns: readonly TableColumn[]): TableColumn[] =>
  columns.filter((column) => !column.fixed && !table.key.some(({ name }) => name === column.name));

/**
 * Writes columns of the row that is there. $1 the key's texts, $2 the columns' JSON texts. With no columns to write, one is set to what it is:
 * Postgres writes the row anew all the same.
 */
export function updateRowSql(
  table: CollectionTable,
  columns: readonly TableColumn[],
  all: readonly TableColumn[],
): string {
  const changed = changeable(table, columns).map(
    ({ name, type }) => `${quoteName(name)} = ($2::jsonb ->> ${quoteText(name)})::${type}`,
  );
  if (changed.length === 0) {
    const same = quoteName((changeable(table, all)[0] ?? all.find((column) => !column.fixed)!).name);
    changed.push(`${same} = case when $2::jsonb is null then null else t.${same} end`);
  }
  return `update ${tableOf(table)} t set ${changed.join(', ')} where ${hasKey(table, 't')}`;
}

/** Sets the sequence of dots forward to what the key has seen of this node, as triggers do: a dot is never used twice. $1 the key's texts. */
export const advanceDotSql = (table: CollectionTable): string =>
  `select pgquorum.advance_dot((coalesce(v.seen, v.clock) ->> n.number::text)::bigint) from ${versionTable(table)} v, pgquorum.identity n where ${hasKey(table, 'v')}`;

/** What the triggers do to a version, for a tombstone, which has no row whose write would call them. $1 the key's texts. */
export const touchTombstoneSql = (table: CollectionTable): string =>
  `update ${versionTable(table)} v set hlc = greatest(pgquorum.now_hlc(), (n.floors ->> ${quoteText(table.collection)})::bigint, v.hlc + 1), origin = n.number, counter = d.counter,
     clock = coalesce(v.seen, v.clock) || jsonb_build_object(n.number, d.counter), seen = null, applied = false, request = nullif(current_setting('pgquorum.request', true), '')::uuid
   from pgquorum.identity n, (select nextval('pgquorum.dot') as counter) d where ${hasKey(table, 'v')} and v.deleted`;

/** Writes a row from its JSON texts, $1. */
export function writeRowSql(table: CollectionTable, columns: readonly TableColumn[]): string {
  const names = columns.map((column) => quoteName(column.name));
  const keys = table.key.map((column) => quoteName(column.name));
  const changed = changeable(table, columns).map((column) => quoteName(column.name));
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
