/** Looks what a statement would do, on an empty copy of the table that is gone again with the transaction: nobody waits for it, and nothing is changed. */
import type pg from 'pg';
import { readCollection, type CollectionRow } from '../collections/catalog.pg.ts';
import { PgquorumError } from '../errors/error.ts';
import { quoteTable } from '../postgres/identifier.ts';
import { sqlStateOf } from '../postgres/sqlstate.ts';
import { checkShapes, type TableShape } from './rules.ts';
import { alterSql, createIndexSql, parseDdl, type DdlStatement, type RelationName } from './statement.ts';
import { refused } from './tokens.ts';

export const fullName = ({ table }: CollectionRow): string =>
  quoteTable({ schema: table.schema, name: table.table });

const copy = 'pg_temp.pgquorum_ddl';

const shapeSql = `select
  (select coalesce(jsonb_agg(jsonb_build_object('number', a.attnum, 'name', a.attname, 'type', format_type(a.atttypid, a.atttypmod), 'collation', nullif(a.attcollation, 0)::text,
     'notNull', a.attnotnull, 'defaultSql', (select pg_get_expr(d.adbin, d.adrelid) from pg_attrdef d where d.adrelid = a.attrelid and d.adnum = a.attnum),
     'generated', a.attgenerated <> '', 'identity', a.attidentity <> '') order by a.attnum), '[]')
   from pg_attribute a where a.attrelid = '${copy}'::regclass and a.attnum > 0 and not a.attisdropped) as columns,
  (select coalesce(jsonb_agg(pg_get_constraintdef(c.oid) order by 1), '[]') from pg_constraint c where c.conrelid = '${copy}'::regclass and c.contype in ('p', 'u', 'x', 'f')) as "unique"`;

/** The collection as this node has it. Throws `ddl_refused` with what is in the way. */
export async function checkDdl(
  client: pg.ClientBase,
  { collection: name, statement: text }: { readonly collection: string; readonly statement: string },
): Promise<{ readonly statement: DdlStatement; readonly collection: CollectionRow }> {
  const statement = parseDdl(text);
  const collection = await readCollection(client, name);
  if (collection === null) throw new PgquorumError('collection_not_found', `collection ${name}`);
  if (statement.kind === 'drop-index') await checkIndex(client, collection, statement);
  else {
    checkTable(collection, statement.table);
    await tryOnCopy(client, collection, statement);
  }
  return { statement, collection };
}

function checkTable({ name, table }: CollectionRow, named: RelationName): void {
  if (named.name !== table.table || (named.schema !== null && named.schema !== table.schema))
    throw refused(`the table of collection ${name} is ${table.schema}.${table.table}`);
}

async function tryOnCopy(
  client: pg.ClientBase,
  collection: CollectionRow,
  statement: DdlStatement & { kind: 'alter' | 'create-index' },
): Promise<void> {
  await client.query('begin');
  try {
    await client.query(
      `create temporary table pgquorum_ddl (like ${fullName(collection)} including all) on commit drop`,
    );
    const before = await readShape(client);
    await run(
      client,
      statement.kind === 'alter'
        ? alterSql(statement, copy)
        : createIndexSql(statement, { table: copy, concurrently: false }),
    );
    checkShapes(before, await readShape(client), collection);
  } finally {
    await client.query('rollback');
  }
}

const readShape = async (client: pg.ClientBase): Promise<TableShape> =>
  (await client.query<TableShape & pg.QueryResultRow>(shapeSql)).rows[0]!;

/** The copy is empty: what Postgres says of the statement is about names and types, not about anybody's rows. */
async function run(client: pg.ClientBase, text: string): Promise<void> {
  try {
    // As a prepared statement it is one statement for the server, whatever is in it.
    await client.query({ text, values: [], queryMode: 'extended' } as pg.QueryConfig);
  } catch (cause) {
    if (sqlStateOf(cause) === null) throw cause;
    throw new PgquorumError('ddl_refused', (cause as Error).message.replaceAll('pgquorum_ddl', 'the table'), {
      cause,
    });
  }
}

export interface FoundIndex {
  readonly valid: boolean;
  /** Of the collection's table, and no constraint's. */
  readonly ours: boolean;
}

export async function findIndex(
  client: pg.ClientBase,
  { table }: CollectionRow,
  index: string,
): Promise<FoundIndex | null> {
  const { rows } = await client.query<FoundIndex>(
    `select i.indisvalid and i.indisready as valid, i.indrelid = to_regclass($2) and not exists (select from pg_constraint c where c.conindid = i.indexrelid) as ours
     from pg_index i join pg_class r on r.oid = i.indexrelid join pg_namespace n on n.oid = r.relnamespace where n.nspname = $1 and r.relname = $3`,
    [table.schema, quoteTable({ schema: table.schema, name: table.table }), index],
  );
  return rows[0] ?? null;
}

async function checkIndex(
  client: pg.ClientBase,
  collection: CollectionRow,
  { index, ifExists }: DdlStatement & { kind: 'drop-index' },
): Promise<void> {
  const { name, table, definition } = collection;
  if (index.schema !== null && index.schema !== table.schema)
    throw refused(`indexes of collection ${name} are in schema ${table.schema}`);
  const found = await findIndex(client, collection, index.name);
  if (found === null) {
    if (ifExists) return;
    throw refused(`there is no index ${index.name}`);
  }
  if (!found.ours)
    throw refused(`index ${index.name} is not one of table ${table.table}, or keeps a constraint`);
  if (definition.attached === undefined && index.name === `${table.table}_embedding`)
    throw refused(`index ${index.name} is part of the collection's definition`);
}
