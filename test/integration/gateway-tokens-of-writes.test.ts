/** Reading one's own writes (G7), on any gateway and from any master, by the token of a write. */
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { foundTestCluster, type TestCluster } from '#core/testing/cluster.pg.ts';
import { startGateway, type TestGateway } from './gateway-fixture.ts';

let cluster: TestCluster;
let gateways: TestGateway[];

/** Each is nearest to another master. */
beforeAll(async () => {
  cluster = await foundTestCluster({ count: 3 });
  gateways = await Promise.all(
    cluster.masters.map((master) =>
      startGateway({ nodes: cluster.masters, cluster: cluster.cluster, env: { PGQUORUM_ZONE: master.zone } }),
    ),
  );
  for (const [name, extra] of [
    ['docs', {}],
    ['spread', { replicationFactor: 2, shards: 8 }],
  ] as const)
    await gateways[0]!.send('PUT', `/v1/collections/${name}`, {
      body: { dimension: 3, index: { type: 'none' }, ...extra },
    });
}, 120_000);

afterAll(async () => {
  await Promise.all((gateways ?? []).map((gateway) => gateway[Symbol.asyncDispose]()));
  await cluster?.[Symbol.asyncDispose]();
});

async function write(ids: readonly string[], n: number, collection = 'docs'): Promise<string> {
  const { status, body } = await gateways[0]!.send('POST', `/v1/collections/${collection}/vectors`, {
    body: { vectors: ids.map((id) => ({ id, embedding: [1, 2, 3], metadata: { n } })) },
  });
  expect(status).toBe(200);
  return (body as { token: string }).token;
}

const get = (gateway: TestGateway, id: string, query: string, collection = 'docs') =>
  gateway.send('GET', `/v1/collections/${collection}/vectors/${id}${query}`);

const search = (gateway: TestGateway, extra: object, collection = 'docs') =>
  gateway.send('POST', `/v1/collections/${collection}/search`, {
    body: { embedding: [1, 2, 3], k: 200, ...extra },
  });

const idsOf = (body: unknown) => (body as { matches: { id: string }[] }).matches.map(({ id }) => id);

test('nothing replicates yet: every gateway finds the one master that has it', async () => {
  const token = await write(['a'], 1);
  for (const gateway of gateways) {
    expect(await get(gateway, 'a', `?token=${token}`)).toMatchObject({
      status: 200,
      body: { metadata: { n: 1 } },
    });
    expect(idsOf((await search(gateway, { token })).body)).toEqual(['a']);
  }
});

test('an older version of the key is not what the token names, and neither is the row after a delete', async () => {
  await gateways[0]!.send('POST', '/v1/collections/docs/vectors?consistency=all', {
    body: { vectors: [{ id: 'b', embedding: [1, 2, 3], metadata: { n: 1 } }] },
  });
  const token = await write(['b'], 2);
  for (const gateway of gateways)
    expect((await get(gateway, 'b', `?token=${token}`)).body).toMatchObject({ metadata: { n: 2 } });
  const removed = await gateways[0]!.send('DELETE', '/v1/collections/docs/vectors/b?consistency=one');
  const { token: last } = removed.body as { token: string };
  for (const gateway of gateways) {
    expect((await get(gateway, 'b', `?token=${last}`)).status).toBe(404);
    expect((await get(gateway, 'b', `?token=${last}&consistency=quorum`)).status).toBe(404);
  }
});

test('where nobody has it the read says so when its time is over, and nothing else', async () => {
  const token = await write(['c'], 1);
  // A version that no master has: the next one of the origin.
  const [, text] = /^(.*)$/.exec(Buffer.from(token, 'base64url').toString())!;
  const later = JSON.parse(text!) as { w: [string, number, number][] };
  later.w[0]![2] += 1_000_000;
  const never = Buffer.from(JSON.stringify(later)).toString('base64url');
  for (const answer of [
    await get(gateways[0]!, 'c', `?timeoutMs=300&token=${never}`),
    await get(gateways[0]!, 'c', `?timeoutMs=300&consistency=all&token=${never}`),
    await gateways[0]!.send('POST', '/v1/collections/docs/search?timeoutMs=300', {
      body: { embedding: [1, 2, 3], token: never },
    }),
  ])
    expect(answer).toMatchObject({ status: 504, body: { code: 'not_yet_visible' } });
  // A key that the token does not name is no matter.
  expect((await get(gateways[0]!, 'a', `?token=${never}`)).status).toBe(200);
  for (const [query, code] of [
    ['token=x', 'invalid_token'],
    [`token=${await write(['x'], 1, 'spread')}`, 'invalid_token'],
  ])
    expect(await get(gateways[0]!, 'c', `?${query}`)).toMatchObject({ status: 400, body: { code } });
});

test('what is on its way is waited for', async () => {
  const token = await write(['d'], 1);
  const origin = (await gateways[0]!.send('GET', '/v1/collections/docs/vectors/d')).body as { node: string };
  const from = cluster.nodes.findIndex((node) => node.name === origin.node);
  // Its master is away for whoever reads: only the others may answer.
  const others = cluster.masters.filter((_, place) => place !== from);
  await using reader = await startGateway({ nodes: others, cluster: cluster.cluster });
  const waiting = get(reader, 'd', `?timeoutMs=20000&token=${token}`);
  const searching = search(reader, { token });
  cluster.replicate();
  expect(await waiting).toMatchObject({ status: 200, body: { metadata: { n: 1 } } });
  expect(idsOf((await searching).body)).toContain('d');
  await cluster.stopEdges();
}, 60_000);

test('a large batch is named by how far its masters have written', async () => {
  const ids = Array.from({ length: 120 }, (_, at) => `big${at}`);
  cluster.replicate();
  for (const collection of ['docs', 'spread']) {
    const token = await write(ids, 7, collection);
    expect(token.length).toBeLessThan(400);
    for (const gateway of gateways) {
      const found = await search(gateway, { token, filter: { n: 7 } }, collection);
      expect(idsOf(found.body)).toHaveLength(ids.length);
      expect(await get(gateway, ids[60]!, `?token=${token}`, collection)).toMatchObject({ status: 200 });
    }
  }
  await cluster.stopEdges();
}, 60_000);
