/** The SQL that makes a table a collection on one node, as statements in order. All of them run in one transaction. Pure. */
import {
  metricOperators,
  typeSql,
  type CollectionDefinition,
  type CollectionTable,
  type KeyColumn,
} from './definition.ts';
import { triggerEvents, triggerStatements, versionTable } from './trigger.ts';
import { quoteName, quoteTable, quoteText } from '../postgres/identifier.ts';

/** The table of a collection that we make ourselves, and its ANN index. */
export function createTableStatements(table: CollectionTable, definition: CollectionDefinition): string[] {
  const target = quoteTable({ schema: table.schema, name: table.table });
  const type = `${typeSql[definition.vectorType]}(${definition.dimension})`;
  return [
    `create table ${target} (id text collate "C" not null, embedding ${type}, metadata jsonb not null default '{}', constraint ${quoteName(`${table.table}_pkey`)} primary key (id))`,
    `comment on table ${target} is 'A pgquorum collection: write it with any SQL client, on any master.'`,
    ...indexStatements(table, definition),
  ];
}

export const indexName = (table: Pick<CollectionTable, 'table'>): string => `${table.table}_embedding`;

export function indexStatements(table: CollectionTable, definition: CollectionDefinition): string[] {
  if (definition.index.type === 'none') return [];
  const opclass = `public.${definition.vectorType}_${metricOperators[definition.metric].opclass}`;
  const { m, efConstruction } = definition.index;
  return [
    `create index ${quoteName(indexName(table))} on ${quoteTable({ schema: table.schema, name: table.table })} using hnsw (embedding ${opclass}) with (m = ${m}, ef_construction = ${efConstruction})`,
  ];
}

/** Version table, triggers, roles of shards and publication membership. */
export function installStatements(
  table: CollectionTable,
  definition: CollectionDefinition,
  ownRole: string,
): string[] {
  const version = versionTable(table);
  const keys = table.key.map((column) => quoteName(column.name)).join(', ');
  const collationOf = ({ type, collation }: KeyColumn): string => {
    if (collation !== undefined) return ` collate ${collation}`;
    return type === 'text' || type.startsWith('character varying') ? ' collate "C"' : '';
  };
  return [
    `create table ${version} (
  ${table.key.map((column) => `${quoteName(column.name)} ${column.type}${collationOf(column)} not null`).join(',\n  ')},
  rank smallint not null,
  epoch bigint not null,
  hlc bigint not null,
  origin smallint not null,
  counter bigint not null,
  clock jsonb not null,
  seen jsonb,
  deleted boolean not null,
  applied boolean not null,
  shard integer not null,
  request uuid,
  crdt jsonb,
  constraint ${quoteName(`version_${table.collection}_pkey`)} primary key (${keys})
) with (fillfactor = 50)`,
    `comment on table ${version} is 'Versions and tombstones of collection ${table.collection}: the one truth per key.'`,
    `create index ${quoteName(`version_${table.collection}_shard`)} on ${version} (shard, ${keys})`,
    ...triggerStatements(table, definition.conflicts, ownRole),
    `insert into pgquorum.collection (name, table_schema, table_name, key_columns, definition, shards) values (${quoteText(table.collection)}, ${quoteText(table.schema)}, ${quoteText(table.table)}, array[${table.key
      .map((column) => quoteText(column.name))
      .join(', ')}], ${quoteText(JSON.stringify(definition))}::jsonb, ${table.shards})`,
    // With a shard map (shards/map.pg.ts) its entries say which are held here.
    `insert into pgquorum.shard_role (collection, shard, role) select ${quoteText(table.collection)}, s, '${definition.replicationFactor === undefined ? 'replica' : 'none'}' from generate_series(0, ${table.shards - 1}) s`,
    `alter publication pgquorum add table ${quoteTable({ schema: table.schema, name: table.table })}, ${version}`,
  ];
}

/** Takes a collection of our own away, its table included. */
export const dropStatements = (table: CollectionTable): string[] => [
  `drop table ${quoteTable({ schema: table.schema, name: table.table })}`,
  ...uninstallStatements(table),
];

/** Takes away what `attach` added to a table, and leaves the table as it was. */
export function detachStatements(table: CollectionTable): string[] {
  const target = quoteTable({ schema: table.schema, name: table.table });
  return [
    `alter publication pgquorum drop table ${target}`,
    ...triggerEvents.map((event) => `drop trigger ${quoteName(`pgquorum_${event}`)} on ${target}`),
    ...uninstallStatements(table),
  ];
}

function uninstallStatements(table: CollectionTable): string[] {
  return [
    ...triggerEvents.map(
      (event) => `drop function pgquorum.${quoteName(`bump_${event}_${table.collection}`)}()`,
    ),
    `drop table ${versionTable(table)}`,
    `delete from pgquorum.collection where name = ${quoteText(table.collection)}`,
  ];
}
