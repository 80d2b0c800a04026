/** Masters for benchmarks: those of the tests, but durable (fsync on) and with room, and with everything quiet that would blur a figure. */
import pg from 'pg';
import { createCollection, dropCollection } from '#core/collections/catalog.pg.ts';
import { ownTable, type CollectionDefinition } from '#core/collections/definition.ts';
import { createTableStatements } from '#core/collections/install.ts';
import { connect } from '#core/postgres/connect.pg.ts';
import { startMasters, type Masters, type TestMaster } from '#core/testing/masters.pg.ts';
import { foundCluster, type ClusterNode } from '#core/topology/found.pg.ts';
import type { LogKind } from '#core/topology/names.ts';
import { dimension } from './rows.ts';

const settings = {
  shared_buffers: '512MB',
  max_wal_size: '16GB',
  min_wal_size: '2GB',
  max_slot_wal_keep_size: '-1',
  checkpoint_timeout: '1h',
  // Every round begins with VACUUM and CHECKPOINT instead.
  autovacuum: 'off',
  log_lock_waits: 'off',
};

/** One node for each, as the role may in an embedded cluster: it marks what it applies, and users' triggers are off while it does. */
export function startBenchMasters(count: number): Promise<Masters> {
  return startMasters({ count, settings, fsync: true, originPrivileges: true });
}

export const clusterName = 'bench';

export interface Pair extends AsyncDisposable {
  readonly masters: Masters;
  /** Origin and peer. */
  readonly cluster: readonly ClusterNode[];
  /** Where rows are written. */
  readonly origin: TestMaster;
  /** Where they shall arrive. */
  readonly peer: TestMaster;
  readonly atOrigin: pg.Client;
  readonly atPeer: pg.Client;
}

/** Two masters, founded as a cluster with this change log. */
export async function startPair(log: LogKind): Promise<Pair> {
  const masters = await startBenchMasters(2);
  const clients: pg.Client[] = [];
  const dispose = async () => {
    await Promise.all(clients.map((client) => client.end()));
    await masters[Symbol.asyncDispose]();
  };
  try {
    const cluster = await foundCluster({ nodes: addresses(masters.nodes), cluster: clusterName, log });
    const [origin, peer] = masters.nodes as [TestMaster, TestMaster];
    for (const node of [origin, peer]) clients.push(await connect(node, { application: 'bench' }));
    const [atOrigin, atPeer] = clients as [pg.Client, pg.Client];
    return { masters, cluster, origin, peer, atOrigin, atPeer, [Symbol.asyncDispose]: dispose };
  } catch (cause) {
    await dispose();
    throw cause;
  }
}

export const addresses = (nodes: readonly TestMaster[]) =>
  nodes.map(({ name, zone, url }) => ({ name, zone, url, weight: 1 }));

export const definition = (
  index: CollectionDefinition['index'],
  ofDimension = dimension,
): CollectionDefinition => ({
  dimension: ofDimension,
  metric: 'cosine',
  vectorType: 'vector',
  shards: 64,
  writes: 'any',
  conflicts: { strategy: 'lww' },
  index,
});
export const noIndex: CollectionDefinition['index'] = { type: 'none' };
export const hnsw: CollectionDefinition['index'] = { type: 'hnsw', m: 16, efConstruction: 64 };

export async function makeCollection(
  nodes: readonly TestMaster[],
  name: string,
  index: CollectionDefinition['index'],
  ofDimension = dimension,
): Promise<void> {
  await createCollection({ nodes: addresses(nodes), name, definition: definition(index, ofDimension) });
}

export async function removeCollection(nodes: readonly TestMaster[], name: string): Promise<void> {
  await dropCollection({ nodes: addresses(nodes), name });
}

/** The same table without versions: what a user has who replicates natively, or not at all. */
export async function makePlainTable(
  client: pg.Client,
  name: string,
  index: CollectionDefinition['index'],
  ofDimension = dimension,
): Promise<void> {
  for (const statement of createTableStatements(
    ownTable(name, { shards: 1 }),
    definition(index, ofDimension),
  ))
    await client.query(statement);
}

/** Nothing left over from before may be paid for in what is measured next. */
export async function settle(nodes: readonly TestMaster[]): Promise<void> {
  for (const node of nodes) {
    const client = new pg.Client({ connectionString: node.superUrl });
    await client.connect();
    try {
      await client.query('vacuum analyze');
      await client.query('checkpoint');
    } finally {
      await client.end();
    }
  }
}
