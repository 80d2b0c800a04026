/** Collections of which no node holds everything: who gets what, and what a gateway does about it. */
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { goldenRangeShards, goldenSplitPoints } from '#core/placement/golden-split-points.testing.ts';
import { requestError } from '#core/postgres/request-error.ts';
import { shardOf } from '#core/placement/partitioning.ts';
import { nextEpoch } from '#core/shards/entry.ts';
import { adoptEntries } from '#core/shards/map.pg.ts';
import { testDefinition } from '#core/testing/cluster.pg.ts';
import { eventually } from '#core/testing/wait.process.ts';
import { shardedCluster, type ShardedCluster } from './shards/cluster.ts';

let cluster: ShardedCluster;
beforeAll(async () => {
  cluster = await shardedCluster();
}, 120_000);
afterAll(async () => cluster?.[Symbol.asyncDispose]());

const vectors = (count: number, prefix = 'k') =>
  Array.from({ length: count }, (_, at) => ({
    id: `${prefix}${at}`,
    embedding: [at + 1, 1, 1],
    metadata: { at },
  }));

async function write(name: string, items: readonly object[]): Promise<{ id: string; coordinator: string }[]> {
  const { status, body } = await cluster.gateway.send(
    'POST',
    `/v1/collections/${name}/vectors?consistency=one`,
    {
      body: { vectors: items },
    },
  );
  expect({ status, body }).toMatchObject({ status: 200 });
  const { results } = body as { results: { id: string; coordinator: string; error?: unknown }[] };
  expect(results.filter((one) => one.error !== undefined)).toEqual([]);
  return results;
}

test('a key of a collection by range is in the shard of its range, for SQL clients and gateways alike', async () => {
  const { gateway, clients } = cluster;
  const body = {
    dimension: 3,
    index: { type: 'none' },
    partitioning: { type: 'range', splitPoints: goldenSplitPoints },
  };
  const made = await gateway.send('PUT', '/v1/collections/ranges', { body });
  expect(made).toMatchObject({ status: 201, body: { shards: goldenSplitPoints.length + 1 } });
  expect((await gateway.send('PUT', '/v1/collections/ranges', { body })).status).toBe(200);
  const bySql = goldenRangeShards.slice(0, 9);
  for (const [key] of bySql) await clients[1]!.query(`insert into ranges values ($1, '[1,2,3]')`, [key]);
  const byGateway = goldenRangeShards.slice(9);
  await write(
    'ranges',
    byGateway.map(([id]) => ({ id, embedding: [1, 2, 3] })),
  );
  await eventually('all keys are on the first node', async () => {
    const { rows } = await clients[0]!.query<{ id: string; shard: number }>(
      'select id, shard from pgquorum.version_ranges',
    );
    if (rows.length < goldenRangeShards.length) return false;
    expect(Object.fromEntries(rows.map(({ id, shard }) => [id, shard]))).toEqual(
      Object.fromEntries(goldenRangeShards),
    );
    return true;
  });
  const { rows } = await clients[0]!.query<{ shard: number }>(
    'select pgquorum.shard_of(k, c.shards, c.definition) as shard from pgquorum.collection c, unnest($1::text[]) with ordinality u(k, n) where c.name = $2 order by n',
    [goldenRangeShards.map(([key]) => key), 'ranges'],
  );
  expect(rows.map(({ shard }) => shard)).toEqual(goldenRangeShards.map(([, shard]) => shard));
  const of = await gateway.send('GET', `/v1/cluster/shards/ranges/of/${encodeURIComponent('😀')}`);
  expect(of).toMatchObject({ status: 200, body: { shard: 6 } });
});

test.each([
  [{ type: 'range' }, /splitPoints/],
  [{ type: 'range', splitPoints: ['b', 'a'] }, /splitPoints.1/],
  [{ type: 'hash', splitPoints: ['b'] }, /splitPoints/],
  [{ type: 'list' }, /partitioning.type/],
])('partitioning %j is refused', async (partitioning, message) => {
  const { status, body } = await cluster.gateway.send('PUT', '/v1/collections/refused', {
    body: { dimension: 3, partitioning },
  });
  expect(status).toBe(400);
  expect((body as { detail: string }).detail).toMatch(message);
});

test('each row is on the replicas of its shard and nowhere else, and is read and found there', async () => {
  const map = await cluster.create('parts', { index: { type: 'hnsw', m: 8, efConstruction: 32 } });
  const items = vectors(60);
  const results = await write('parts', items);
  for (const { id, coordinator } of results)
    expect(coordinator).toBe(map[shardOf(id, testDefinition)]!.replicas[0]);
  await cluster.settled('parts');
  const { gateway } = cluster;
  expect((await cluster.places('parts')).size).toBe(60);
  const read = await gateway.send('POST', '/v1/collections/parts/vectors/get', {
    body: { ids: items.map(({ id }) => id) },
  });
  expect(
    (read.body as { items: { id: string; metadata: object }[] }).items.map(({ metadata }) => metadata),
  ).toEqual(items.map(({ metadata }) => metadata));
  const found = await gateway.send('POST', '/v1/collections/parts/search', {
    body: { embedding: [1, 1, 1], k: 60 },
  });
  expect(found.body).toMatchObject({ shardsSearched: 8, shardsTotal: 8, partial: false });
  const { matches, nodes } = found.body as { matches: { id: string }[]; nodes: string[] };
  expect(new Set(matches.map(({ id }) => id)).size).toBe(60);
  // Each node has the shards of two neighbours: two nodes that are no neighbours have all.
  expect(nodes).toHaveLength(2);
  expect((await gateway.send('GET', '/v1/collections/parts')).body).toMatchObject({ rows: 60 });
  const shards = await gateway.send('GET', '/v1/cluster/shards/parts');
  expect((shards.body as { items: unknown[] }).items[3]).toEqual({
    id: 3,
    primary: 'n4',
    replicas: ['n4', 'n1'],
    status: 'active',
  });
});

test('what a node has of a shard that is not its own is neither read nor found', async () => {
  const map = await cluster.create('leftovers');
  const [item] = vectors(1);
  await write('leftovers', [item!]);
  await cluster.settled('leftovers');
  const { replicas, shard } = map[shardOf(item!.id, testDefinition)]!;
  const elsewhere = cluster.nodes.findIndex(({ name }) => !replicas.includes(name));
  // As a departed shard that has not been cleaned away: a row with a version that is older than that of the replicas.
  await cluster.clients[elsewhere]!.query(
    `begin; set local pgquorum.apply = 'on'; insert into leftovers values ('k0', '[9,9,9]');
     insert into pgquorum.version_leftovers values ('k0', 0, 0, 1, 99, 1, '{"99": 1}', null, false, true, ${shard}, null, null); commit`,
  );
  for (let turn = 0; turn < 8; turn += 1) {
    const { body } = await cluster.gateway.send('POST', '/v1/collections/leftovers/search', {
      body: { embedding: [1, 1, 1], k: 10, include: ['embedding'] },
    });
    expect((body as { matches: object[] }).matches).toMatchObject([{ id: 'k0', embedding: [1, 1, 1] }]);
  }
});

test('a gateway whose map is old is refused by the node, takes the new map and goes on', async () => {
  const map = await cluster.create('stale');
  await write('stale', [{ id: 'a', embedding: [1, 2, 3] }]);
  const entry = map[shardOf('a', testDefinition)]!;
  const at = cluster.nodes.findIndex(({ name }) => name === entry.replicas[0]);
  const epoch = nextEpoch(entry.epoch, cluster.nodes[0]!.number);
  const newer = { ...entry, epoch };
  for (const [place, node] of cluster.nodes.entries())
    await adoptEntries(cluster.clients[place]!, node.name, [newer]);
  const refused = cluster.clients[at]!.query('select pgquorum.check_shards($1, $2, $3)', [
    'stale',
    [entry.shard],
    [entry.epoch],
  ]);
  await expect(refused).rejects.toMatchObject({ code: 'PQ020' });
  const [again] = await write('stale', [{ id: 'a', embedding: [3, 2, 1] }]);
  expect(again!.coordinator).toBe(entry.replicas[0]);
  // An older entry than the one that is known changes nothing.
  expect(await adoptEntries(cluster.clients[at]!, entry.replicas[0]!, [entry])).toEqual([]);
});

test('a collection may refuse writes by SQL where the shard is not held', async () => {
  const map = await cluster.create('strict', { nonHostWrites: 'refuse' });
  const { replicas } = map[shardOf('a', testDefinition)]!;
  for (const [place, node] of cluster.nodes.entries()) {
    const written = cluster.clients[place]!.query(
      `insert into strict values ('a', '[1,2,3]') on conflict (id) do update set embedding = excluded.embedding`,
    );
    if (replicas.includes(node.name)) await written;
    else {
      await expect(written).rejects.toMatchObject({
        code: 'PQ021',
        hint: expect.stringContaining(replicas.join(', ')) as unknown,
      });
      expect(await written.catch(requestError)).toMatchObject({ code: 'shard_elsewhere' });
    }
  }
  await cluster.settled('strict');
});
