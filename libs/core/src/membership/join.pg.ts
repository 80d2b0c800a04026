/**
 * A node joins a cluster that has collections: what founding does on it, under the founding locks, after its identity is known everywhere.
 *
 * In this order, each step repeatable, so that a kill at any point is finished by the next start of any process:
 * 1. its peers have their slots on it (found.pg.ts): no write on it precedes the slot that has to carry it;
 * 2. its collections are made as they are elsewhere, without ANN indexes, in one transaction;
 * 3. each edge into it begins as one that has missed everything: a position is noted on the origin, the log is read from there, and all states of the
 *    origin are copied beside it (resync/). What was committed before the position is copied, what comes after it is read: nothing falls between.
 *
 * Writes go on everywhere. The node is told apart by `joining_since` until finish-join.pg.ts finds that all of it is there.
 */
import type pg from 'pg';
import { lockCollections, listCollections } from '../collections/catalog.pg.ts';
import type { CollectionDefinition } from '../collections/definition.ts';
import { createTableStatements, installStatements } from '../collections/install.ts';
import { putMap } from '../shards/map.pg.ts';
import { PgquorumError } from '../errors/error.ts';
import { failpoint } from '../faults/failpoint.process.ts';
import { quoteTable } from '../postgres/identifier.ts';
import { sqlStateOf } from '../postgres/sqlstate.ts';
import { edgeSlot, type LogKind } from '../topology/names.ts';
import type { FoundNode } from '../topology/numbers.ts';

export interface JoinOptions {
  readonly cluster: string;
  readonly log: LogKind;
  readonly joiner: FoundNode;
  readonly client: pg.Client;
  readonly others: readonly FoundNode[];
  /** A connection to a node that does not join itself. */
  readonly like: pg.Client | undefined;
}

type Joining = JoinOptions & { readonly like: pg.Client };

export async function joinNode({ like, ...options }: JoinOptions): Promise<void> {
  const { client, joiner } = options;
  if (like === undefined)
    throw new PgquorumError(
      'node_misfit',
      `node ${joiner.name} joins a cluster of which no other node is listed: list them all`,
    );
  await client.query('begin');
  await like.query('begin');
  try {
    // A change of the collections that is under way does not know of this node: what follows waits until it is committed.
    await lockCollections(like);
    await lockCollections(client);
    await makeCollections({ ...options, like });
    failpoint('join-collections-made');
    await beginEdges(options);
    await client.query('commit');
  } catch (cause) {
    await client.query('rollback').catch(() => undefined); // the connection may be what failed
    throw cause;
  } finally {
    await like.query('rollback').catch(() => undefined); // it only held a lock
  }
}

async function makeCollections({ client, like, joiner }: Joining): Promise<void> {
  const here = new Set((await listCollections(client)).map(({ name }) => name));
  const role = (await client.query<{ role: string }>('select session_user::text as role')).rows[0]!.role;
  for (const { name, table, definition, map } of await listCollections(like)) {
    if (here.has(name)) continue;
    const create =
      definition.attached === undefined ? createTableStatements(table, withoutIndex(definition)) : [];
    try {
      for (const statement of [...create, ...installStatements(table, definition, role)])
        await client.query(statement);
      // It holds no shard of a collection with a map until one is moved to it.
      if (map !== undefined) await putMap(client, joiner.name, map);
    } catch (cause) {
      throw misfit(cause, {
        node: joiner.name,
        table: quoteTable({ schema: table.schema, name: table.table }),
      });
    }
  }
}

const withoutIndex = (definition: CollectionDefinition): CollectionDefinition => ({
  ...definition,
  index: { ...definition.index, type: 'none' },
});

/** Tables that were attached are their owner's: they are not made here, for what they need beside them is not known. */
function misfit(cause: unknown, { node, table }: { node: string; table: string }): unknown {
  if (sqlStateOf(cause) === '42P07')
    return new PgquorumError(
      'table_exists',
      `node ${node} joins and has a relation ${table}, which is a collection of the cluster: rename or drop it`,
      { cause },
    );
  if (sqlStateOf(cause) === '42P01' || sqlStateOf(cause) === '3F000')
    return new PgquorumError(
      'node_misfit',
      `node ${node} joins and lacks ${table}, which is attached on the others: create it here as it is there, without rows (pg_dump --schema-only), and start again`,
      { cause },
    );
  return cause;
}

async function beginEdges({
  cluster,
  log,
  joiner,
  client,
  others,
}: Omit<JoinOptions, 'like'>): Promise<void> {
  for (const origin of others) {
    const made = await client.query(
      `insert into pgquorum.source (origin, log, state, slot, generation) values ($1, $2, 'resync', $3, '') on conflict do nothing`,
      [origin.number, log, log === 'wal' ? edgeSlot(cluster, origin.number, joiner.number) : null],
    );
    if (made.rowCount === 1)
      await client.query(
        `insert into pgquorum.resync (origin, log, reason, phase) values ($1, $2, $3, 'noting') on conflict do nothing`,
        [origin.number, log, `${joiner.name} joins the cluster`],
      );
  }
}
