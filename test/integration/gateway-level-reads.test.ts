/** Reads at QUORUM and ALL, with repair. No replicator runs, so masters differ until a read brings them together. */
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { foundTestCluster, type TestCluster } from '#core/testing/cluster.pg.ts';
import { startGateway, type TestGateway } from './gateway-fixture.ts';

const places = [0, 1, 2];
let cluster: TestCluster;
let gateway: TestGateway;

beforeAll(async () => {
  cluster = await foundTestCluster({ count: 3 });
  gateway = await startGateway({ nodes: cluster.masters, cluster: cluster.cluster });
  for (const [name, extra] of [
    ['docs', {}],
    ['spread', { replicationFactor: 2, shards: 8 }],
    ['shown', { conflicts: { strategy: 'vector-clock' } }],
  ] as const)
    expect(
      (
        await gateway.send('PUT', `/v1/collections/${name}`, {
          body: { dimension: 3, index: { type: 'none' }, ...extra },
        })
      ).status,
    ).toBe(201);
}, 120_000);

afterAll(async () => {
  await gateway?.[Symbol.asyncDispose]();
  await cluster?.[Symbol.asyncDispose]();
});

const at = (name: string): number => cluster.nodes.findIndex((node) => node.name === name);

const get = (id: string, query: string, collection = 'docs') =>
  gateway.send('GET', `/v1/collections/${collection}/vectors/${id}${query}`);

const put = async (id: string, n: number, query = '', collection = 'docs') => {
  const answer = await gateway.send('POST', `/v1/collections/${collection}/vectors${query}`, {
    body: { vectors: [{ id, embedding: [1, 2, 3], metadata: { n } }] },
  });
  return (answer.body as { results: { coordinator: string; version: { text: string } }[] }).results[0]!;
};

/** What each master has of a key: its metadata, `deleted`, or nothing. */
const held = (id: string, collection = 'docs') =>
  Promise.all(
    places.map(async (place) => {
      const [row] = await cluster.query<{ metadata: unknown; deleted: boolean }>(
        place,
        `select t.metadata, v.deleted from pgquorum.version_${collection} v left join ${collection} t using (id) where v.id = $1`,
        [id],
      );
      return row === undefined ? null : row.deleted ? 'deleted' : row.metadata;
    }),
  );

test('what one master has is found at QUORUM, and on a majority afterwards', async () => {
  const { coordinator, version } = await put('a', 1, '?consistency=one');
  expect((await held('a')).filter((one) => one !== null)).toEqual([{ n: 1 }]);
  expect(await get('a', '?consistency=quorum')).toMatchObject({
    status: 200,
    body: { id: 'a', metadata: { n: 1 }, version: { text: version.text } },
  });
  const now = await held('a');
  expect(now[at(coordinator)]).toEqual({ n: 1 });
  expect(now.filter((one) => one !== null).length).toBeGreaterThanOrEqual(2);
  expect((await get('a', '?consistency=all')).status).toBe(200);
  expect(await held('a')).toEqual([{ n: 1 }, { n: 1 }, { n: 1 }]);
});

test('a later write on any master is what a read at ALL gives back, and repairs', async () => {
  await put('b', 1, '?consistency=all');
  for (const place of places) {
    await cluster.query(place, `update docs set metadata = '{"n": ${place + 2}}' where id = 'b'`);
    expect(await get('b', '?consistency=all')).toMatchObject({
      status: 200,
      body: { metadata: { n: place + 2 } },
    });
    expect(await held('b')).toEqual(places.map(() => ({ n: place + 2 })));
  }
});

test('a tombstone beats an older row, whoever has it, and is no error', async () => {
  await put('c', 1, '?consistency=all');
  for (const place of places) {
    await put('c', place + 5, '?consistency=all');
    await cluster.query(place, `delete from docs where id = 'c'`);
    expect(await get('c', '?consistency=all')).toMatchObject({
      status: 404,
      body: { code: 'vector_not_found' },
    });
    expect(await held('c')).toEqual(['deleted', 'deleted', 'deleted']);
  }
  expect(await get('never', '?consistency=all')).toMatchObject({
    status: 404,
    body: { code: 'vector_not_found' },
  });
});

test('concurrent writes do not fail a read: the winner everywhere, and the other one kept', async () => {
  await put('d', 1, '?consistency=all');
  for (const place of [0, 1])
    await cluster.query(place, `update docs set metadata = '{"by": ${place}}' where id = 'd'`);
  const first = await get('d', '?consistency=all');
  expect(first).toMatchObject({ status: 200, body: { metadata: { by: 1 } } });
  expect(await held('d')).toEqual([{ by: 1 }, { by: 1 }, { by: 1 }]);
  for (const place of places)
    expect(
      await cluster.query(
        place,
        `select c.state, c.loser_row ->> 'metadata' as lost from pgquorum.conflict c where c.key = 'd'`,
      ),
    ).toEqual([{ state: 'open', lost: '{"by": 0}' }]);
});

test('siblings are those of all replicas', async () => {
  await put('e', 1, '?consistency=all', 'shown');
  for (const place of places)
    await cluster.query(place, `update shown set metadata = '{"by": ${place}}' where id = 'e'`);
  const answer = await get('e', '?consistency=all&include=siblings', 'shown');
  expect(answer).toMatchObject({ status: 200, body: { metadata: { by: 2 } } });
  const { siblings } = answer.body as { siblings: { metadata: unknown }[] };
  expect(siblings.map(({ metadata }) => JSON.stringify(metadata)).toSorted()).toEqual([
    '{"by":0}',
    '{"by":1}',
  ]);
});

test('many keys at once, of shards on two of three masters', async () => {
  const ids = Array.from({ length: 20 }, (_, place) => `k${place}`);
  for (const [place, id] of ids.entries()) await put(id, place, '?consistency=one', 'spread');
  const answer = await gateway.send('POST', '/v1/collections/spread/vectors/get?consistency=quorum', {
    body: { ids: [...ids, 'none'] },
  });
  const { items } = answer.body as {
    items: { id: string; metadata?: { n: number }; error?: { code: string } }[];
  };
  expect(items.slice(0, -1).map(({ metadata }) => metadata?.n)).toEqual(ids.map((_, place) => place));
  expect(items.at(-1)).toMatchObject({ id: 'none', error: { code: 'vector_not_found' } });
  for (const id of ids) expect((await held(id, 'spread')).filter((one) => one !== null)).toHaveLength(2);
});

test('a delete and a patch beyond ONE find what the primary does not have', async () => {
  for (const id of ['f', 'g']) {
    const route = await gateway.send('GET', `/v1/cluster/shards/docs/of/${id}`);
    const primary = at((route.body as { primary: string }).primary);
    const other = places.find((place) => place !== primary)!;
    await cluster.query(other, `insert into docs (id, metadata) values ($1, '{"n": 2}')`, [id]);
  }
  expect(
    (
      await gateway.send('PATCH', '/v1/collections/docs/vectors/f?consistency=quorum', {
        body: { metadata: { more: 1 } },
      })
    ).body,
  ).toMatchObject({ consistency: 'quorum' });
  expect((await get('f', '?consistency=all')).body).toMatchObject({ metadata: { n: 2, more: 1 } });
  expect(
    (await gateway.send('DELETE', '/v1/collections/docs/vectors/g?consistency=quorum')).body,
  ).toMatchObject({ consistency: 'quorum' });
  expect((await get('g', '?consistency=all')).status).toBe(404);
});
