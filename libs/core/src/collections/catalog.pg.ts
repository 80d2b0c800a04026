/**
 * Collections on the nodes. Creating one needs every node: the statements run in one transaction per node, all of which are open before the
 * first commits, so a node that can not do it leaves nothing anywhere. A crash between the commits is finished by repeating the call.
 */
import type pg from 'pg';
import type { NodeAddress } from '../config/settings.ts';
import { PgquorumError } from '../errors/error.ts';
import { failpoint } from '../faults/failpoint.process.ts';
import { connect } from '../postgres/connect.pg.ts';
import { isConnectionError, sqlStateOf } from '../postgres/sqlstate.ts';
import { quoteName } from '../postgres/identifier.ts';
import { newest, type ShardMap } from '../shards/entry.ts';
import { putMap, readMap } from '../shards/map.pg.ts';
import { markEarlierSql } from './earlier.ts';
import {
  ownTable,
  sameDefinition,
  type CollectionDefinition,
  type CollectionTable,
  type KeyColumn,
} from './definition.ts';
import { createTableStatements, dropStatements, installStatements } from './install.ts';
import { triggerFunctions } from './trigger.ts';

export interface CollectionRow {
  readonly name: string;
  readonly table: CollectionTable;
  readonly definition: CollectionDefinition;
  readonly createdAt: Date;
  /** As the node that was asked has it; undefined where every node holds every shard. */
  readonly map?: ShardMap;
}

interface Queryable {
  query<R extends pg.QueryResultRow>(text: string, values?: unknown[]): Promise<pg.QueryResult<R>>;
}

const listSql = `select c.name, c.table_schema, c.table_name, c.key_columns, c.definition, c.shards, c.created_at,
  (select array_agg(format_type(a.atttypid, a.atttypmod) order by array_position(c.key_columns, a.attname::text))
   from pg_attribute a where a.attrelid = to_regclass(format('%I.%I', c.table_schema, c.table_name)) and a.attname = any(c.key_columns)) as key_types,
  (select array_agg((select format('%I.%I', n.nspname, l.collname) from pg_collation l join pg_namespace n on n.oid = l.collnamespace where l.oid = a.attcollation) order by array_position(c.key_columns, a.attname::text))
   from pg_attribute a where a.attrelid = to_regclass(format('%I.%I', c.table_schema, c.table_name)) and a.attname = any(c.key_columns)) as key_collations,
  (select jsonb_agg(jsonb_build_object('collection', m.collection, 'shard', m.shard, 'epoch', m.epoch, 'replicas', m.replicas, 'next', m.next) order by m.shard) from pgquorum.shard_map m where m.collection = c.name) as map
  from pgquorum.collection c`;

interface RawCollection {
  name: string;
  table_schema: string;
  table_name: string;
  key_columns: string[];
  key_types: string[] | null;
  key_collations: (string | null)[] | null;
  definition: CollectionDefinition;
  shards: number;
  created_at: Date;
  map: ShardMap | null;
}

const fromRaw = (row: RawCollection): CollectionRow => ({
  name: row.name,
  definition: row.definition,
  createdAt: row.created_at,
  ...(row.map === null ? {} : { map: row.map }),
  table: {
    collection: row.name,
    schema: row.table_schema,
    table: row.table_name,
    key: row.key_columns.map((name, at): KeyColumn => {
      const collation = row.key_collations?.[at] ?? null;
      return { name, type: row.key_types?.[at] ?? 'text', ...(collation === null ? {} : { collation }) };
    }),
    shards: row.shards,
    ...(row.definition.partitioning === undefined ? {} : { partitioning: row.definition.partitioning }),
    ...(row.definition.nonHostWrites === undefined ? {} : { nonHostWrites: row.definition.nonHostWrites }),
    ...(row.definition.attached === undefined ? {} : { attached: row.definition.attached }),
  },
});

export async function listCollections(db: Queryable): Promise<CollectionRow[]> {
  const rows = await db.query<RawCollection>(`${listSql} order by c.name`);
  return rows.rows.map(fromRaw);
}

export async function readCollection(db: Queryable, name: string): Promise<CollectionRow | null> {
  const rows = await db.query<RawCollection>(`${listSql} where c.name = $1`, [name]);
  return rows.rows[0] ? fromRaw(rows.rows[0]) : null;
}

/** Rows and bytes of a collection on one node; rows (of these shards, null = all) are counted from the version table, so tombstones are left out. */
export async function measureCollection(
  db: Queryable,
  table: CollectionTable,
  shards: readonly number[] | null,
): Promise<{ rows: number; bytes: string }> {
  const result = await db.query<{ rows: string; bytes: string }>(
    `select (select count(*) from pgquorum.${quoteName(`version_${table.collection}`)} v where not v.deleted and ($3::int[] is null or v.shard = any($3)))::text as rows, pg_total_relation_size(to_regclass(format('%I.%I', $1::text, $2::text)))::text as bytes`,
    [table.schema, table.table, shards],
  );
  return { rows: Number(result.rows[0]!.rows), bytes: result.rows[0]!.bytes };
}

export interface CreateOptions {
  readonly nodes: readonly NodeAddress[];
  readonly name: string;
  readonly definition: CollectionDefinition;
  readonly check?: DefinitionCheck | undefined;
  /** Who holds what, for a definition with a replication factor. */
  readonly map?: ShardMap | undefined;
}

/** Refuses what this node cannot do. */
export type DefinitionCheck = (client: pg.Client, definition: CollectionDefinition) => Promise<void>;

/** `created` is false when all nodes had it already with this definition. */
export async function createCollection({
  nodes,
  name,
  definition,
  check,
  map,
}: CreateOptions): Promise<{ created: boolean }> {
  if (definition.replicationFactor !== undefined && map === undefined)
    throw new PgquorumError('internal', 'a collection with a replication factor needs a shard map');
  const made = await onAllNodes(
    nodes,
    `pgquorum create ${name}`,
    async (client, node) => {
      const existing = await readCollection(client, name);
      if (existing === null) await check?.(client, definition);
      return createOn({ client, node, name, definition, existing });
    },
    map === undefined ? undefined : (clients) => putMaps(clients, nodes, { name, map }),
  );
  return { created: made.some(Boolean) };
}

/** What a crash left half-way has its map already, and perhaps moved since: that one is for all. */
async function putMaps(
  clients: readonly pg.Client[],
  nodes: readonly NodeAddress[],
  { name, map }: { readonly name: string; readonly map: ShardMap },
): Promise<void> {
  const found = await Promise.all(clients.map((client) => readMap(client, name)));
  const wanted = newest(found.some((one) => one.length > 0) ? found : [map]);
  for (const [at, client] of clients.entries())
    if (found[at]!.length === 0) await putMap(client, nodes[at]!.name, wanted);
}

export interface ChangeOptions {
  readonly nodes: readonly NodeAddress[];
  readonly name: string;
  readonly change: (before: CollectionDefinition) => CollectionDefinition;
  readonly check?: DefinitionCheck | undefined;
}

/** Changes the definition on every node at once: each has it, and its triggers follow it, from one commit on. Repeating it finishes what a crash left. */
export async function changeCollection({ nodes, name, change, check }: ChangeOptions): Promise<void> {
  await onAllNodes(nodes, `pgquorum change ${name}`, async (client, node) => {
    const found = await readCollection(client, name);
    if (found === null)
      throw new PgquorumError('collection_not_found', `collection ${name} on node ${node.name}`);
    const after = change(found.definition);
    if (sameDefinition(found.definition, after)) return;
    await check?.(client, after);
    await client.query('update pgquorum.collection set definition = $2 where name = $1', [
      name,
      JSON.stringify(after),
    ]);
    const role = (await client.query<{ role: string }>('select session_user::text as role')).rows[0]!.role;
    for (const statement of triggerFunctions(found.table, after.conflicts, role))
      await client.query(statement);
  });
}

/** Drops the collection with its table and all its versions on every node. */
export async function dropCollection({
  nodes,
  name,
}: Omit<CreateOptions, 'definition' | 'check'>): Promise<void> {
  const drop = async (client: pg.Client): Promise<boolean> => {
    const found = await readCollection(client, name);
    if (found === null) return false;
    if (found.definition.attached !== undefined)
      throw new PgquorumError('collection_attached', `collection ${name} is an attached table`);
    for (const statement of dropStatements(found.table)) await client.query(statement);
    await forgetCollection(client, name);
    return true;
  };
  const dropped = await onAllNodes(nodes, `pgquorum drop ${name}`, drop, (clients) =>
    markEarlier(clients, name),
  );
  if (!dropped.some(Boolean)) throw new PgquorumError('collection_not_found', `collection ${name}`);
}

/** What is kept about a collection beside its own tables. */
export async function forgetCollection(client: pg.Client, name: string): Promise<void> {
  for (const table of ['conflict', 'request', 'unfolded', 'parked', 'pause', 'dead_letter', 'horizon'])
    await client.query(`delete from pgquorum.${table} where collection = $1`, [name]);
}

/** Called while the table is locked on every node, so that no write of it can come after. */
export async function markEarlier(clients: readonly pg.Client[], name: string): Promise<void> {
  const reached: Record<string, number> = {};
  for (const client of clients) {
    const rows = await client.query<{ number: number; counter: string }>(
      'select n.number, case when d.is_called then d.last_value else 0 end::text as counter from pgquorum.node n, pgquorum.dot d',
    );
    reached[rows.rows[0]!.number] = Number(rows.rows[0]!.counter);
  }
  for (const client of clients) await client.query(markEarlierSql, [name, JSON.stringify(reached)]);
}

interface CreateOnOptions {
  readonly client: pg.Client;
  readonly node: NodeAddress;
  readonly name: string;
  readonly definition: CollectionDefinition;
  readonly existing: CollectionRow | null;
}

async function createOn({ client, node, name, definition, existing }: CreateOnOptions): Promise<boolean> {
  if (existing !== null) {
    if (sameDefinition(existing.definition, definition)) return false;
    throw new PgquorumError(
      'collection_exists',
      `collection ${name} has another definition on node ${node.name}`,
    );
  }
  await checkFollows(client, node);
  const table = ownTable(name, definition);
  const role = (await client.query<{ role: string }>('select session_user::text as role')).rows[0]!.role;
  try {
    for (const statement of [
      ...createTableStatements(table, definition),
      ...installStatements(table, definition, role),
    ])
      await client.query(statement);
  } catch (cause) {
    if (sqlStateOf(cause) === '42P07')
      throw new PgquorumError(
        'table_exists',
        `a relation named ${name} is on node ${node.name} and is no collection`,
        { cause },
      );
    throw cause;
  }
  return true;
}

/** A write must not precede the slot that has to carry it. */
export async function checkFollows(client: pg.Client, node: NodeAddress): Promise<void> {
  const sources = await client.query<{ unready: string[] | null }>(
    `select array_agg(m.name) as unready from pgquorum.member m, pgquorum.node n where not m.spare and not m.retired and m.number <> n.number
     and not exists (select from pgquorum.source s where s.origin = m.number and s.log = n.log
       and (s.state = 'ready' or s.state = 'resync' and exists (select from pgquorum.resync r where r.origin = s.origin and r.log = s.log and r.phase = 'copying')))`,
  );
  const unready = sources.rows[0]!.unready;
  if (unready !== null)
    throw new PgquorumError('not_ready', `node ${node.name} does not follow ${unready.join(', ')} yet`);
}

/** Until the end of the transaction: of those who change the collections of a node, one does. */
export async function lockCollections(client: pg.Client): Promise<void> {
  await client.query(`select pg_advisory_xact_lock(hashtextextended('pgquorum collections', 7308895))`);
}

/** A process that was started before a node joined would leave it out. */
async function checkMembers(client: pg.Client, nodes: readonly NodeAddress[]): Promise<void> {
  const going = await client.query<{ name: string }>(
    'select m.name from pgquorum.member m where m.change is not null and not m.retired limit 1',
  );
  if (going.rows[0] !== undefined)
    throw new PgquorumError(
      'not_ready',
      `node ${going.rows[0].name} is being removed: collections can be changed when it is gone`,
    );
  const { rows } = await client.query<{ names: string[] | null }>(
    'select array_agg(m.name order by m.name) as names from pgquorum.member m where not m.spare and not m.retired and m.name <> all($1::text[])',
    [nodes.map(({ name }) => name)],
  );
  if (rows[0]!.names !== null)
    throw new PgquorumError(
      'not_ready',
      `${rows[0]!.names.join(', ')} joined the cluster: list it in PGQUORUM_NODES of this process and start it again`,
    );
}

/** One transaction on every node, none of which commits before all have done their work. */
export async function onAllNodes<T>(
  nodes: readonly NodeAddress[],
  application: string,
  work: (client: pg.Client, node: NodeAddress) => Promise<T>,
  beforeCommit?: (clients: readonly pg.Client[]) => Promise<void>,
): Promise<T[]> {
  const clients: pg.Client[] = [];
  try {
    const opened = await Promise.allSettled(
      nodes.map((node) => connect(node, { application, connectTimeoutMs: 3000 })),
    );
    for (const one of opened) if (one.status === 'fulfilled') clients.push(one.value);
    const failed = opened.find((one) => one.status === 'rejected');
    if (failed) throw failed.reason;
    // One at a time and in the order of the list, so that two callers wait for each other instead of deadlocking across nodes.
    const results: T[] = [];
    for (const [at, client] of clients.entries()) {
      await client.query('begin');
      await client.query(`set local lock_timeout = '10s'`);
      await lockCollections(client);
      await checkMembers(client, nodes);
      results.push(await work(client, nodes[at]!));
    }
    await beforeCommit?.(clients);
    for (const client of clients) {
      await client.query('commit');
      failpoint('collections-committed');
    }
    return results;
  } catch (cause) {
    if (isConnectionError(cause))
      throw new PgquorumError(
        'replicas_unavailable',
        'a collection can be changed only while every node can be reached',
        { cause },
      );
    if (cause instanceof PgquorumError && cause.code === 'node_unreachable')
      throw new PgquorumError(
        'replicas_unavailable',
        `${cause.detail}; a collection can be changed only while every node can be reached`,
        { cause },
      );
    throw cause;
  } finally {
    await Promise.all(clients.map((client) => client.end().catch(() => undefined))); // an open transaction is rolled back with its connection
  }
}
