/** A patch that is repeated on another master while the masters do not hear of each other: once they do, it has been done once. */
import { expect, test } from '@jest/globals';
import type { ConflictRules } from '#core/collections/conflict-rules.ts';
import { eventually } from '#core/testing/wait.process.ts';
import { foundTestCluster, type TestCluster } from '#core/testing/cluster.pg.ts';
import { FaultProxy } from './fault-proxy.ts';
import { startGateway, type NodeUrl, type TestGateway } from './gateway-fixture.ts';

const conflicts: ConflictRules = {
  strategy: 'crdt',
  crdt: { views: 'g-counter', stock: 'pn-counter', tags: 'or-set' },
};
const vectors = '/v1/collections/docs/vectors';

/** A gateway for which this master is down: nobody listens at its address. */
const gatewayWithout = (cluster: TestCluster, place: number): Promise<TestGateway> =>
  startGateway({
    cluster: cluster.cluster,
    nodes: cluster.masters.map((node, at): NodeUrl => {
      const url = new URL(node.url);
      if (at === place) url.port = '1';
      return { name: node.name, zone: node.zone, url: url.href };
    }),
  });

interface Result {
  readonly coordinator: string;
  readonly version: { readonly text: string };
  readonly operation?: { readonly origin: string };
}

const settled = async (cluster: TestCluster) => {
  for (let round = 0; round < 2; round += 1) await cluster.caughtUp();
};

test('an increment that is repeated under its key on a second master counts once on both', async () => {
  await using cluster = await foundTestCluster({ count: 2 });
  await cluster.create('docs', { conflicts });
  await using first = await gatewayWithout(cluster, 1);
  await using second = await gatewayWithout(cluster, 0);
  await cluster.query(0, `insert into docs values ('a', '[1,2,3]', '{"n":0}'), ('b', '[1,2,3]', '{"n":0}')`);
  cluster.replicate();
  await settled(cluster);
  await cluster.stopEdges();
  const send = async (gateway: TestGateway, id: string, body: object, key: string) => {
    const answer = await gateway.send('PATCH', `${vectors}/${id}`, {
      body,
      headers: { 'idempotency-key': key },
    });
    expect(answer.status).toBe(200);
    return answer.body as Result;
  };
  const both = {
    metadata: { n: 1 },
    crdt: { views: { increment: 3 }, stock: { decrement: 2 }, tags: { add: 'x' } },
  };
  const fields = { crdt: { views: { increment: 10 } } };
  for (const [gateway, name] of [
    [first, 'n1'],
    [second, 'n2'],
  ] as const) {
    for (const [id, body] of [
      ['a', both],
      ['b', fields],
    ] as const) {
      const done = await send(gateway, id, body, id);
      expect(done).toMatchObject({ coordinator: name, operation: { origin: name } });
    }
    // Counts on each master by itself, and must not be taken for the repeat.
    await send(gateway, 'b', { crdt: { views: { increment: 1 } } }, `own ${name}`);
  }
  const values = (place: number, id: string) =>
    cluster.query(place, `select pgquorum.crdt_get('docs', $1) as crdt`, [id]);
  for (const place of [0, 1])
    expect(await values(place, 'a')).toEqual([{ crdt: { views: 3, stock: -2, tags: ['x'] } }]);

  cluster.replicate();
  await settled(cluster);
  for (const place of [0, 1]) {
    expect(await values(place, 'a')).toEqual([{ crdt: { views: 3, stock: -2, tags: ['x'] } }]);
    expect(await values(place, 'b')).toEqual([{ crdt: { views: 12, stock: 0, tags: [] } }]);
    expect(await cluster.query(place, `select metadata from docs where id = 'a'`)).toEqual([
      { metadata: { n: 1 } },
    ]);
    expect(await cluster.query(place, `select id from pgquorum.conflict where state = 'open'`)).toEqual([]);
  }
  const [one, other] = await cluster.states('docs');
  expect(other).toEqual(one);
  // Once both have it, a repeat anywhere is known.
  for (const gateway of [first, second]) {
    await send(gateway, 'a', both, 'a');
    await send(gateway, 'b', fields, 'b');
  }
  await settled(cluster);
  for (const place of [0, 1]) {
    expect(await values(place, 'a')).toEqual([{ crdt: { views: 3, stock: -2, tags: ['x'] } }]);
    expect(await values(place, 'b')).toEqual([{ crdt: { views: 12, stock: 0, tags: [] } }]);
  }
}, 120_000);

test('a repeat through another gateway is answered with what the first one did', async () => {
  await using cluster = await foundTestCluster({ count: 2 });
  await cluster.create('docs', { conflicts });
  const start = (zone: string) =>
    startGateway({ cluster: cluster.cluster, nodes: cluster.masters, env: { PGQUORUM_ZONE: zone } });
  await using near1 = await start(cluster.masters[0]!.zone);
  await using near2 = await start(cluster.masters[1]!.zone);
  await cluster.query(0, `insert into docs values ('a', '[1,2,3]')`);
  cluster.replicate();
  await settled(cluster);
  await cluster.stopEdges();
  const send = async (gateway: TestGateway, body: object, key: string) => {
    const answer = await gateway.send('PATCH', `${vectors}/a?coordinator=nearest`, {
      body,
      headers: { 'idempotency-key': key },
    });
    expect(answer.status).toBe(200);
    return answer.body as Result;
  };
  const body = { crdt: { views: { increment: 1 }, tags: { add: 'x' } } };
  const done = await send(near1, body, 'k');
  expect(done).toMatchObject({ coordinator: 'n1' });
  expect(await send(near2, body, 'k')).toEqual(done);
  expect(await send(near2, body, 'other')).toMatchObject({ coordinator: 'n2' });
  expect(await cluster.query(1, `select pgquorum.crdt_get('docs', 'a') -> 'views' as views`)).toEqual([
    { views: 1 },
  ]);
  cluster.replicate();
  await settled(cluster);
  for (const place of [0, 1])
    expect(await cluster.query(place, `select pgquorum.crdt_get('docs', 'a') -> 'views' as views`)).toEqual([
      { views: 2 },
    ]);
}, 120_000);

test('when the answer to a commit is lost, a patch goes on elsewhere only if it can not count twice', async () => {
  await using cluster = await foundTestCluster({ count: 2 });
  await cluster.create('docs', { conflicts });
  const proxy = await FaultProxy.beforeUrl(cluster.masters[0]!.url);
  try {
    await using gateway = await startGateway({
      cluster: cluster.cluster,
      nodes: [{ name: 'n1', zone: 'near', url: proxy.through(cluster.masters[0]!.url) }, cluster.masters[1]!],
      env: { PGQUORUM_ZONE: 'near' },
    });
    await cluster.query(
      0,
      `insert into docs select 'k' || i, '[1,2,3]', '{"n":0}' from generate_series(1, 4) i`,
    );
    cluster.replicate();
    await settled(cluster);
    await cluster.stopEdges();
    const send = async (id: string, body: object, headers: Record<string, string> = {}) => {
      await eventually('n1 is used again', async () => {
        const probe = await gateway.send('POST', `${vectors}?coordinator=nearest`, {
          body: { vectors: [{ id: 'probe', embedding: null }] },
        });
        return (probe.body as { results: Result[] }).results[0]!.coordinator === 'n1';
      });
      proxy.toClient.cutWithin = (piece) => piece.includes('COMMIT\0');
      const answer = await gateway.send('PATCH', `${vectors}/${id}?coordinator=nearest`, { body, headers });
      proxy.heal();
      return answer;
    };
    const increment = { crdt: { views: { increment: 1 } } };
    expect(await send('k1', increment)).toMatchObject({
      status: 504,
      body: { code: 'write_outcome_unknown' },
    });
    expect(await send('k2', { metadata: { n: 1 } })).toMatchObject({
      status: 200,
      body: { coordinator: 'n2' },
    });
    const versions = await cluster.query<{ text: string }>(
      1,
      `select origin || '.' || counter as text from pgquorum.version_docs where id in ('k3', 'k4') order by id`,
    );
    const [k3, k4] = versions.map(({ text }) => ({ 'if-match': text }));
    expect(await send('k3', { metadata: { n: 1 } }, k3)).toMatchObject({
      status: 200,
      body: { coordinator: 'n2' },
    });
    // The second master has another version, but the first one may have committed: this is no plain mismatch.
    await cluster.query(1, `update docs set metadata = '{"n":2}' where id = 'k4'`);
    expect(await send('k4', { metadata: { n: 1 } }, k4)).toMatchObject({
      status: 504,
      body: { code: 'write_outcome_unknown' },
    });
    // A refusal commits nothing whose answer could be lost.
    expect(await send('k4', { metadata: { n: 1 } }, k3)).toMatchObject({ status: 412 });
    cluster.replicate();
    await settled(cluster);
    for (const place of [0, 1]) {
      expect(
        await cluster.query(place, `select pgquorum.crdt_get('docs', 'k1') -> 'views' as views`),
      ).toEqual([{ views: 1 }]);
      expect(await cluster.query(place, `select metadata from docs where id in ('k2', 'k3')`)).toEqual([
        { metadata: { n: 1 } },
        { metadata: { n: 1 } },
      ]);
      expect(
        await cluster.query(
          place,
          `select key from pgquorum.conflict where state = 'open' and key <> 'probe'`,
        ),
      ).toEqual([{ key: 'k4' }]);
    }
  } finally {
    await proxy[Symbol.asyncDispose]();
  }
}, 120_000);
