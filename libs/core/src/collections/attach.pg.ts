/**
 * Makes an existing table a collection on every node, or refuses with all its reasons. Version table, triggers and publication come in one transaction
 * per node under `share row exclusive`: running writes end before, later ones have versions. The transactions of all nodes are open before the first
 * commits; repeating the call finishes what a crash left. Rows that are there already get their versions afterwards (backfill.pg.ts).
 */
import type pg from 'pg';
import type { NodeAddress } from '../config/settings.ts';
import { PgquorumError } from '../errors/error.ts';
import { quoteName, quoteTable } from '../postgres/identifier.ts';
import { sqlStateOf } from '../postgres/sqlstate.ts';
import { judge, type Refusal } from './attach-refusals.ts';
import type { AttachRequest } from './attach-request.ts';
import { attachedDefinition, attachedTable } from './attached-definition.ts';
import { checkFollows, onAllNodes, readCollection, type CollectionRow } from './catalog.pg.ts';
import { sameDefinition, type CollectionDefinition } from './definition.ts';
import type { ExistingTable, NodeTable } from './existing-table.ts';
import { inspectTable, missingHere } from './inspect-table.pg.ts';
import { installStatements } from './install.ts';
import { keySequences, type KeySequences } from './key-sequences.ts';
import { createLikeStatements, notCreatable, type SequenceStart } from './table-ddl.ts';

export interface AttachOptions {
  readonly nodes: readonly NodeAddress[];
  readonly name: string;
  readonly request: AttachRequest;
}

export interface AttachOutcome {
  /** False when all nodes had it already with this definition. */
  readonly attached: boolean;
  readonly definition: CollectionDefinition;
  /** Nodes on which the table was made. */
  readonly created: readonly string[];
  readonly warnings: readonly string[];
}

interface Found {
  readonly client: pg.Client;
  readonly node: NodeAddress;
  readonly existing: CollectionRow | null;
  readonly inspected: NodeTable;
}

/** Users' writes wait behind us while we wait for those before them. */
const lockTimeoutMs = 3000;

export async function attachCollection(options: AttachOptions): Promise<AttachOutcome> {
  const { nodes, name, request } = options;
  // Looked at first without locks: what is refused must not hold anyone up.
  await onAllNodes(nodes, `pgquorum attach ${name}`, (client, node) => look(client, node, options)).then(
    (found) => check(options, found),
  );
  let outcome: AttachOutcome | undefined;
  const found: Found[] = [];
  await onAllNodes(
    nodes,
    `pgquorum attach ${name}`,
    async (client, node) => {
      await lockTable(client, request, node);
      found.push(await look(client, node, options));
    },
    async () => {
      outcome = await install(options, found);
    },
  );
  return outcome!;
}

async function look(client: pg.Client, node: NodeAddress, { name, request }: AttachOptions): Promise<Found> {
  const existing = await readCollection(client, name);
  await checkFollows(client, node);
  return { client, node, existing, inspected: await inspectTable(client, node.name, request.table) };
}

async function lockTable(client: pg.Client, { table }: AttachRequest, node: NodeAddress): Promise<void> {
  const target = quoteTable(table);
  const known = await client.query<{ found: boolean }>(
    `select exists (select from pg_class c join pg_namespace n on n.oid = c.relnamespace where n.nspname = $1 and c.relname = $2) as found`,
    [table.schema, table.name],
  );
  if (known.rows[0]!.found) await lockAlone(client, target, node.name);
}

/** Waits for writes that run, and keeps new ones out. */
export async function lockAlone(
  client: pg.Client,
  target: string,
  node: string,
  mode: 'share row exclusive' | 'access exclusive' = 'share row exclusive',
): Promise<void> {
  try {
    await client.query(`set local lock_timeout = ${lockTimeoutMs}`);
    await client.query(`lock table ${target} in ${mode} mode`);
  } catch (cause) {
    if (sqlStateOf(cause) !== '55P03') throw cause;
    throw new PgquorumError('table_busy', `${target} on node ${node}`, { cause });
  }
}

interface Plan {
  readonly definition: CollectionDefinition;
  readonly like: ExistingTable;
  readonly sequences: KeySequences;
  readonly warnings: readonly string[];
}

function check({ name, request }: AttachOptions, found: readonly Found[]): Plan {
  const inspected = found.map((one) => one.inspected);
  const { refusals, warnings } = judge(name, request, inspected);
  if (refusals.length > 0) throw refuse(refusals);
  const like = inspected.find(({ table }) => table !== null)!.table!;
  const definition = attachedDefinition(like, request);
  for (const { existing, node } of found)
    if (
      existing !== null &&
      (!sameDefinition(existing.definition, definition) ||
        existing.table.schema !== like.schema ||
        existing.table.table !== like.name)
    )
      throw new PgquorumError(
        'collection_exists',
        `collection ${name} has another definition on node ${node.name}`,
      );
  const missing = inspected.filter(({ table }) => table === null);
  const why = missing.length > 0 ? notCreatable(like) : [];
  if (why.length > 0)
    throw refuse(
      missing.map(({ node }) => ({
        node,
        reason: `${quoteTable(like)} is missing here and can not be made from the other one alone: ${why.join('; ')}`,
        wayOut: 'create it here as it is there, without its rows, and repeat',
      })),
    );
  return { definition, like, warnings, sequences: keySequences(inspected) };
}

function refuse(refusals: readonly Refusal[]): PgquorumError {
  const [first, ...others] = refusals;
  const where = first!.node === null ? '' : ` (node ${first!.node})`;
  return new PgquorumError(
    'attach_refused',
    `${first!.reason}${where}; ${first!.wayOut}${others.length > 0 ? `; and ${others.length} more` : ''}`,
    { extra: { refusals } },
  );
}

async function install(options: AttachOptions, found: readonly Found[]): Promise<AttachOutcome> {
  const { definition, like, sequences, warnings } = check(options, found);
  const created: string[] = [];
  const notes = [...warnings];
  let attached = false;
  for (const { client, node, existing, inspected } of found) {
    if (existing !== null) continue;
    attached = true;
    if (inspected.table === null) {
      notes.push(...(await createLike(client, node, like, sequences)));
      created.push(node.name);
    }
    // As the catalog says: names of the other's objects are not looked for in a path of this session.
    await client.query('set local search_path = pg_catalog');
    const role = (await client.query<{ role: string }>('select session_user::text as role')).rows[0]!.role;
    const table = attachedTable(options.name, like, options.request.shards);
    for (const statement of installStatements(table, definition, role)) await client.query(statement);
  }
  return { attached, definition, created, warnings: notes };
}

/** Makes the table where it is missing; gives back what could not be made alike. */
async function createLike(
  client: pg.Client,
  node: NodeAddress,
  like: ExistingTable,
  sequences: KeySequences,
): Promise<string[]> {
  const others = like.foreignKeys.map(({ to }) => to);
  const missing = await missingHere(client, {
    types: like.columns.map(({ type }) => type),
    tables: others.filter(({ schema, name }) => schema !== like.schema || name !== like.name),
  });
  const no = (reason: string, wayOut: string): PgquorumError =>
    refuse([{ node: node.name, reason: `${quoteTable(like)} can not be created here: ${reason}`, wayOut }]);
  if (missing.length > 0)
    throw no(
      `there is no ${missing.join(', no ')}`,
      'create what is missing first (attach the tables that it refers to)',
    );
  const roles = await client.query<{ name: string }>('select rolname as name from pg_roles');
  const starts = new Map<string, SequenceStart>(
    [...sequences.created].flatMap(([column, places]) => {
      const start = places.get(node.name);
      return start === undefined ? [] : [[column, start] as const];
    }),
  );
  const names = roles.rows.map(({ name }) => name);
  try {
    const schema = await client.query(`select from pg_namespace where nspname = $1`, [like.schema]);
    if (schema.rows.length === 0) await client.query(`create schema ${quoteName(like.schema)}`);
    for (const statement of createLikeStatements({ table: like, sequences: starts, roles: names }))
      await client.query(statement);
  } catch (cause) {
    const sqlstate = sqlStateOf(cause);
    if (sqlstate === null || sqlstate.startsWith('08') || sqlstate.startsWith('57')) throw cause;
    throw no((cause as Error).message, 'create it here as it is there, without its rows, and repeat');
  }
  const role = (await client.query<{ role: string }>('select current_user::text as role')).rows[0]!.role;
  const absent = new Set(
    like.grants.flatMap((grant) => (grant.role !== null && !names.includes(grant.role) ? [grant.role] : [])),
  );
  return [
    ...(role === like.owner
      ? []
      : [
          `on node ${node.name} ${quoteTable(like)} was made by role ${role}; elsewhere it belongs to ${like.owner}`,
        ]),
    ...[...absent].map(
      (name) => `node ${node.name} has no role ${name}, which has rights on the table elsewhere`,
    ),
  ];
}
