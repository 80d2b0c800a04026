/** Rows and tombstones of keys on one node. */
import type pg from 'pg';
import type { CollectionRow } from '../collections/catalog.pg.ts';
import type { CollectionTable } from '../collections/definition.ts';
import {
  columnTextSql,
  embeddingColumn,
  hasAnyIdSql,
  idSql,
  metadataColumn,
} from '../collections/row-address.ts';
import { versionTable } from '../collections/trigger.ts';
import { sameKey } from '../collections/unversioned-rows.ts';
import { siblingsSql } from '../conflicts/siblings.ts';
import { textArray } from '../postgres/binary-array.ts';
import { quoteName, quoteTable, quoteText } from '../postgres/identifier.ts';
import { statement, type NamedStatement } from '../writes/statements.ts';
import type { StoredRow } from './stored-vector.ts';

export interface RowsWanted {
  readonly siblings: boolean;
  /** What the node has seen of the key, too. */
  readonly seen?: boolean;
}

/** A column of the key is null only where there is nothing. */
const isThere = (table: CollectionTable, alias: string): string =>
  `${alias}.${quoteName(table.key[0]!.name)} is not null`;
const eitherId = (table: CollectionTable): string =>
  `case when ${isThere(table, 't')} then ${idSql(table, 't')} else ${idSql(table, 'v')} end`;

/** Siblings in the same statement, so that they are of the same moment. */
function rowsStatement(
  { table, definition: { conflicts } }: CollectionRow,
  wanted: RowsWanted,
): NamedStatement {
  const crdt =
    conflicts.crdt === undefined
      ? ''
      : `, pgquorum.crdt_values(v.crdt, ${quoteText(JSON.stringify(conflicts.crdt))}) as crdt`;
  const siblings = wanted.siblings
    ? `, ${siblingsSql(quoteText(table.collection), eitherId(table))} as siblings`
    : '';
  const seen = wanted.seen === true ? ', coalesce(v.seen, v.clock) as seen' : '';
  return statement(
    `select ${eitherId(table)} as id, ${isThere(table, 't')} as present, ${columnTextSql('t', embeddingColumn(table))} as embedding, ${columnTextSql('t', metadataColumn(table))} as metadata, v.hlc::text as hlc, v.origin, v.counter::text as counter, v.clock, v.rank${crdt}${siblings}${seen}
     from (select * from ${quoteTable({ schema: table.schema, name: table.table })} r where ${hasAnyIdSql(table, 'r')}) t
     full join (select * from ${versionTable(table)} r where ${hasAnyIdSql(table, 'r')}) v on ${sameKey(table, 'v.', 't.')}`,
  );
}

/** By id. What is in neither table is not known there, and left out. */
export async function readRows(
  client: Pick<pg.ClientBase, 'query'>,
  collection: CollectionRow,
  ids: readonly string[],
  wanted: RowsWanted,
): Promise<Map<string, StoredRow>> {
  const result = await client.query<StoredRow>({
    ...rowsStatement(collection, wanted),
    values: [textArray(ids)],
  });
  return new Map(result.rows.map((row) => [row.id, row]));
}

/** The versions of keys alone, as `readRows` has them. */
export async function readDigests(
  client: Pick<pg.ClientBase, 'query'>,
  { table }: CollectionRow,
  ids: readonly string[],
): Promise<Map<string, Digest>> {
  const result = await client.query<Digest>({
    ...statement(
      `select ${idSql(table, 'v')} as id, v.origin, v.counter::text as counter, coalesce(v.seen, v.clock) as seen from ${versionTable(table)} v where ${hasAnyIdSql(table, 'v')}`,
    ),
    values: [textArray(ids)],
  });
  return new Map(result.rows.map((row) => [row.id, row]));
}

/** Nodes with the same digest of a key have the same of it: the same winner, merged from the same writes. */
export type Digest = Pick<StoredRow, 'id' | 'origin' | 'counter' | 'seen'>;
