/** The SQL of the gateway's writes. Text only; every value is bound. Pure. */
import { createHash } from 'node:crypto';
import {
  castSql,
  sentAs,
  typeSql,
  type CollectionTable,
  type VectorType,
} from '../collections/definition.ts';
import {
  embeddingColumn,
  hasAnyIdSql,
  hasIdSql,
  idSql,
  keyColumnsSql,
  keyPartsSql,
  metadataColumn,
} from '../collections/row-address.ts';
import { versionTable } from '../collections/trigger.ts';
import { quoteName, quoteTable } from '../postgres/identifier.ts';

export interface NamedStatement {
  /** Prepared once per connection under this name; a hash of the text, so that one name never means two statements. */
  readonly name: string;
  readonly text: string;
}

const named = (text: string): NamedStatement => ({
  name: `pgq_${createHash('sha256').update(text).digest('hex').slice(0, 24)}`,
  text,
});
const cache = new Map<string, NamedStatement>();

/** Statements are few: some for each collection. */
export function statement(text: string): NamedStatement {
  let found = cache.get(text);
  if (found === undefined) {
    if (cache.size > 2000) cache.clear();
    found = named(text);
    cache.set(text, found);
  }
  return found;
}

const tableOf = (table: CollectionTable): string => quoteTable({ schema: table.schema, name: table.table });

/** $1 ids, $2 embeddings, $3 metadata: arrays in binary format, in key order. */
export function upsertStatement(table: CollectionTable, vectorType: VectorType): NamedStatement {
  const columns = [
    { name: embeddingColumn(table), value: castSql('u.embedding', vectorType) },
    { name: metadataColumn(table), value: 'u.metadata' },
  ].flatMap(({ name, value }) => (name === null ? [] : [{ name: quoteName(name), value }]));
  return statement(
    `insert into ${tableOf(table)} (${[keyColumnsSql(table), ...columns.map(({ name }) => name)].join(', ')}) overriding system value select ${[keyPartsSql(table, 'u.id'), ...columns.map(({ value }) => value)].join(', ')} from unnest($1::text[], $2::${typeSql[sentAs[vectorType]]}[], $3::jsonb[]) as u(id, embedding, metadata) ` +
      `on conflict (${keyColumnsSql(table)}) do update set ${columns.map(({ name }) => `${name} = excluded.${name}`).join(', ')}`,
  );
}

/** Rows are locked in key order before they are deleted in any. */
export const lockRowsStatement = (table: CollectionTable): NamedStatement =>
  statement(
    `select from ${tableOf(table)} t where ${hasAnyIdSql(table, 't')} order by ${keyColumnsSql(table, 't.')} for update`,
  );

export const deleteStatement = (table: CollectionTable): NamedStatement =>
  statement(
    `delete from ${tableOf(table)} t where ${hasAnyIdSql(table, 't')} returning ${idSql(table, 't')} as id`,
  );

/** The versions of keys, as VersionColumns with id and deleted. */
export const versionsStatement = (table: CollectionTable): NamedStatement =>
  statement(
    `select ${idSql(table, 'v')} as id, v.hlc::text as hlc, v.origin, v.counter::text as counter, v.clock, v.deleted from ${versionTable(table)} v where ${hasAnyIdSql(table, 'v')}`,
  );

/** The ranks of keys, tombstones included. */
export const ranksStatement = (table: CollectionTable): NamedStatement =>
  statement(
    `select ${idSql(table, 'v')} as id, v.rank from ${versionTable(table)} v where ${hasAnyIdSql(table, 'v')}`,
  );

/** What a request has written here, with the version where it still is the current one. Operations on CRDT fields are remembered with hlc 0. */
export const requestStatement = (table: CollectionTable): NamedStatement =>
  statement(
    `select r.key as id, r.origin, r.counter::text as counter, v.hlc::text as hlc, v.clock
     from pgquorum.request r left join ${versionTable(table)} v on ${hasIdSql(table, 'v', 'r.key')} and v.origin = r.origin and v.counter = r.counter
     where r.collection = $1 and r.request = $2 and r.key = any($3::text[]) and r.hlc > 0`,
  );
