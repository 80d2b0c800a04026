/** Four masters with a gateway and a replicator in the test's process, and a collection whose shards are on two of them each. */
import pg from 'pg';
import { createCollection } from '#core/collections/catalog.pg.ts';
import type { CollectionDefinition } from '#core/collections/definition.ts';
import { createLogger } from '#core/observability/logger.process.ts';
import { firstEpoch, planMap, type ShardMap } from '#core/shards/entry.ts';
import { readMap } from '#core/shards/map.pg.ts';
import { testDefinition } from '#core/testing/cluster.pg.ts';
import { freshNodes } from '#core/testing/fresh-nodes.pg.ts';
import { eventually } from '#core/testing/wait.process.ts';
import { foundCluster, type ClusterNode } from '#core/topology/found.pg.ts';
import { startReplicator } from '../../../apps/replicator/src/embedded.ts';
import { settingsFor, startGateway, type TestGateway } from '../gateway-fixture.ts';

export interface ShardedCluster extends AsyncDisposable {
  readonly gateway: TestGateway;
  readonly cluster: string;
  readonly nodes: readonly ClusterNode[];
  readonly clients: readonly pg.Client[];
  create(name: string, definition?: Partial<CollectionDefinition>): Promise<ShardMap>;
  /** As the first node has it. */
  map(name: string): Promise<ShardMap>;
  /** Key -> names of the nodes that have a row of it, and those that have a version. */
  places(name: string): Promise<Map<string, { rows: string[]; versions: string[] }>>;
  /** Until every key's row and version is on exactly the replicas of its shard. */
  settled(name: string): Promise<void>;
}

export async function shardedCluster(
  options: { readonly count?: number; readonly env?: Record<string, string> } = {},
): Promise<ShardedCluster> {
  const fresh = await freshNodes({ count: options.count ?? 4 });
  const settings = settingsFor(fresh.nodes, fresh.cluster, options.env);
  const nodes = await foundCluster({ nodes: settings.nodes!, cluster: fresh.cluster, log: 'wal' });
  const replicator = await startReplicator(
    settings,
    createLogger({ app: 'test', level: 'warn', write: () => undefined }),
  );
  const gateway = await startGateway({
    nodes: fresh.nodes,
    cluster: fresh.cluster,
    ...(options.env ? { env: options.env } : {}),
  });
  const clients = await Promise.all(
    fresh.nodes.map(async ({ url }) => {
      const client = new pg.Client({ connectionString: url, application_name: 'a user' });
      await client.connect();
      return client;
    }),
  );
  const sharded: ShardedCluster = {
    gateway,
    cluster: fresh.cluster,
    nodes,
    clients,
    create: async (name, definition) => {
      const whole = { ...testDefinition, replicationFactor: 2, ...definition };
      const names = nodes.map((node) => node.name);
      const map = planMap(name, { ...whole, epoch: firstEpoch(Date.now()) }, (shard) =>
        names.map((_, at) => names[(shard + at) % names.length]!),
      );
      await createCollection({ nodes: nodes.map((node) => node.address), name, definition: whole, map });
      return map;
    },
    map: (name) => readMap(clients[0]!, name),
    places: (name) => placesOf(sharded, name),
    settled: async (name) => {
      let wrong: string[] = [];
      await eventually(
        'each key is on the replicas of its shard',
        async () => {
          wrong = await misplaced(sharded, name);
          return wrong.length === 0;
        },
        { withinMs: 60_000, everyMs: 100 },
      ).catch((cause: unknown) => {
        throw new Error(`${(cause as Error).message}: ${wrong.slice(0, 5).join('; ')}`, { cause });
      });
    },
    [Symbol.asyncDispose]: async () => {
      await Promise.all(clients.map((client) => client.end().catch(() => undefined))); // a test may have ended it
      await gateway[Symbol.asyncDispose]();
      await replicator.close();
      await fresh[Symbol.asyncDispose]();
    },
  };
  return sharded;
}

async function placesOf(
  { nodes, clients }: ShardedCluster,
  name: string,
): Promise<Map<string, { rows: string[]; versions: string[] }>> {
  const places = new Map<string, { rows: string[]; versions: string[] }>();
  const at = (key: string) => {
    let place = places.get(key);
    if (place === undefined) places.set(key, (place = { rows: [], versions: [] }));
    return place;
  };
  for (const [place, node] of nodes.entries()) {
    const rows = await clients[place]!.query<{ id: string }>(`select id from ${name}`);
    for (const { id } of rows.rows) at(id).rows.push(node.name);
    const versions = await clients[place]!.query<{ id: string; deleted: boolean }>(
      `select id, deleted from pgquorum.version_${name}`,
    );
    for (const { id } of versions.rows) at(id).versions.push(node.name);
  }
  return places;
}

async function misplaced(cluster: ShardedCluster, name: string): Promise<string[]> {
  const map = await cluster.map(name);
  const shards = new Map<string, number>();
  for (const client of cluster.clients)
    for (const { id, shard } of (
      await client.query<{ id: string; shard: number }>(`select id, shard from pgquorum.version_${name}`)
    ).rows)
      shards.set(id, shard);
  const wrong: string[] = [];
  for (const [key, { rows, versions }] of await cluster.places(name)) {
    const expected = [...(map[shards.get(key)!]?.replicas ?? [])].toSorted().join();
    const dead = rows.length === 0;
    if (versions.toSorted().join() !== expected || (!dead && rows.toSorted().join() !== expected))
      wrong.push(
        `${key} of shard ${shards.get(key)} (${expected}) has rows on ${rows.join()} and versions on ${versions.join()}`,
      );
  }
  return wrong;
}
