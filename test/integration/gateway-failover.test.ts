/** A gateway while masters go and come back. */
import { setTimeout as delay } from 'node:timers/promises';
import { expect, test } from '@jest/globals';
import { PgquorumError } from '#core/errors/error.ts';
import { createLogger } from '#core/observability/logger.process.ts';
import { startMasters } from '#core/testing/masters.pg.ts';
import { createGateway } from '../../apps/gateway/src/gateway.ts';
import { FaultProxy } from './fault-proxy.ts';
import { settingsFor, startGateway, type TestGateway } from './gateway-fixture.ts';

const vectors = '/v1/collections/docs/vectors';

interface Result {
  id: string;
  coordinator: string;
  version: { text: string };
  error?: { code: string };
}

const upsert = async (
  gateway: TestGateway,
  ids: string[],
  options: { query?: string; key?: string } = {},
) => {
  const headers: Record<string, string> = options.key === undefined ? {} : { 'idempotency-key': options.key };
  const answer = await gateway.send('POST', `${vectors}${options.query ?? ''}`, {
    body: { vectors: ids.map((id) => ({ id, embedding: [1, 2, 3] })) },
    headers,
  });
  return { status: answer.status, body: answer.body as { results: Result[]; code?: string } };
};
const idsOf = (prefix: string, count: number) => Array.from({ length: count }, (_, at) => `${prefix}-${at}`);

async function until(what: string, condition: () => Promise<boolean>): Promise<void> {
  const deadline = Date.now() + 15_000;
  while (!(await condition())) {
    if (Date.now() > deadline) throw new Error(`not in time: ${what}`);
    await delay(20);
  }
}

test('writes and reads go on while a master is down, and it is used again when it is back', async () => {
  await using masters = await startMasters();
  await using gateway = await startGateway({ nodes: masters.nodes, cluster: 'failover' });
  await gateway.send('PUT', '/v1/collections/docs', { body: { dimension: 3 } });
  const ids = idsOf('key', 40);
  const before = await upsert(gateway, ids, { key: 'repeat' });
  expect(new Set(before.body.results.map((result) => result.coordinator)).size).toBe(3);

  await masters.nodes[1]!.kill9();
  const during = await upsert(gateway, idsOf('during', 40));
  expect(during.status).toBe(200);
  expect(new Set(during.body.results.map((result) => result.coordinator))).toEqual(new Set(['n1', 'n3']));
  // Shards of the other masters stay where they are.
  const moved = (await upsert(gateway, ids)).body.results;
  for (const [at, result] of before.body.results.entries())
    if (result.coordinator !== 'n2') expect(moved[at]!.coordinator).toBe(result.coordinator);
  expect(
    (await gateway.send('POST', '/v1/collections/docs/search', { body: { embedding: [1, 2, 3] } })).status,
  ).toBe(200);
  expect((await gateway.send('GET', '/v1/cluster/nodes')).body).toMatchObject({
    items: [{ id: 'n1' }, { id: 'n2', status: 'down' }, { id: 'n3' }],
  });
  expect((await gateway.send('GET', '/v1/cluster/health')).body).toMatchObject({
    status: 'degraded',
    totalNodes: 3,
  });
  // A collection needs every node, and leaves nothing behind without one.
  expect(await gateway.send('PUT', '/v1/collections/half', { body: { dimension: 3 } })).toMatchObject({
    status: 503,
    body: { code: 'replicas_unavailable' },
  });
  expect((await gateway.send('GET', '/v1/collections/half')).status).toBe(404);

  await masters.nodes[1]!.start();
  await until('n2 is used again', async () =>
    (await upsert(gateway, ids)).body.results.some((result) => result.coordinator === 'n2'),
  );
}, 120_000);

test('a repeat on another master under the same key carries the same request', async () => {
  await using masters = await startMasters({ count: 2 });
  await using gateway = await startGateway({ nodes: masters.nodes, cluster: 'repeat' });
  await gateway.send('PUT', '/v1/collections/docs', { body: { dimension: 3 } });
  const ids = idsOf('key', 20);
  const first = await upsert(gateway, ids, { key: 'k' });
  const onSecond = first.body.results
    .filter((result) => result.coordinator === 'n2')
    .map((result) => result.id);
  expect(onSecond.length).toBeGreaterThan(0);
  await masters.nodes[1]!.stop();
  const repeated = await upsert(gateway, ids, { key: 'k' });
  expect(repeated.status).toBe(200);
  expect(repeated.body.results.every((result) => result.coordinator === 'n1')).toBe(true);
  await masters.nodes[1]!.start();
  const requests = async (node: number) =>
    gateway.sql<{ request: string }>(
      node,
      'select distinct request::text from pgquorum.version_docs where id = any($1)',
      [onSecond],
    );
  expect(await requests(1)).toEqual(await requests(0));
  expect(await requests(0)).toHaveLength(1);
  // Known on a node that answers now, so not written a third time.
  const third = await upsert(gateway, ids, { key: 'k' });
  expect(third.body.results.map((result) => result.version.text).toSorted()).not.toEqual([]);
  expect(
    (await gateway.sql<{ count: number }>(0, 'select count(*)::int as count from pgquorum.request'))[0]!
      .count,
  ).toBe(20);
}, 120_000);

test('without any master nothing is written and it says so, and the gateway stays up', async () => {
  await using masters = await startMasters({ count: 2 });
  await using gateway = await startGateway({ nodes: masters.nodes, cluster: 'none' });
  await gateway.send('PUT', '/v1/collections/docs', { body: { dimension: 3 } });
  await upsert(gateway, ['a']);
  await Promise.all(masters.nodes.map((node) => node.stop()));
  expect(await upsert(gateway, ['b'])).toMatchObject({ status: 503, body: { code: 'replicas_unavailable' } });
  expect(await gateway.send('GET', `${vectors}/a`)).toMatchObject({
    status: 503,
    body: { code: 'replicas_unavailable' },
  });
  expect((await gateway.send('GET', '/healthz')).status).toBe(200);
  expect(await gateway.send('GET', '/readyz')).toMatchObject({
    status: 503,
    body: { code: 'not_ready', reasons: ['no node can be written'] },
  });
  expect((await gateway.send('GET', '/v1/cluster/health')).body).toMatchObject({
    status: 'unavailable',
    healthyNodes: 0,
  });
  expect((await gateway.send('GET', '/metrics')).status).toBe(200);
  await Promise.all(masters.nodes.map((node) => node.start()));
  await until('writes work again', async () => (await upsert(gateway, ['b'])).status === 200);
}, 120_000);

test('a gateway starts without a master that was there when the cluster was founded, and not before', async () => {
  await using masters = await startMasters();
  const settings = settingsFor(masters.nodes, 'degraded');
  const logger = createLogger({ app: 'test', level: 'silent' });
  await masters.nodes[2]!.stop();
  await expect(createGateway(settings, logger)).rejects.toMatchObject({
    code: 'node_unreachable',
    detail: expect.stringContaining('n3'),
  });
  await masters.nodes[2]!.start();
  await (await createGateway(settings, logger)).close();
  await masters.nodes[2]!.stop();
  await using gateway = await startGateway({ nodes: masters.nodes, cluster: 'degraded' });
  expect((await gateway.send('GET', '/v1/cluster/nodes')).body).toMatchObject({
    items: [{ number: 1 }, { number: 2 }, { id: 'n3', number: 3, status: 'down' }],
  });
  await expect(createGateway(settingsFor(masters.nodes, 'another'), logger)).rejects.toBeInstanceOf(
    PgquorumError,
  );
}, 120_000);

test('a commit whose answer is lost is repeated elsewhere under the same request; with nowhere to go its outcome is unknown', async () => {
  await using masters = await startMasters({ count: 2 });
  const proxy = await FaultProxy.beforeUrl(masters.nodes[0]!.url);
  try {
    const nodes = [{ name: 'n1', zone: 'z', url: proxy.through(masters.nodes[0]!.url) }, masters.nodes[1]!];
    await using gateway = await startGateway({ nodes, cluster: 'lost' });
    await gateway.send('PUT', '/v1/collections/docs', { body: { dimension: 3 } });
    const [id] = (await upsert(gateway, idsOf('find', 30))).body.results
      .filter((result) => result.coordinator === 'n1')
      .map((result) => result.id);
    proxy.toClient.cutWithin = (piece) => piece.includes('COMMIT\0');
    const written = await upsert(gateway, [id!]);
    expect(written).toMatchObject({ status: 200, body: { results: [{ coordinator: 'n2' }] } });
    proxy.heal();
    const direct = { ...gateway, nodes: masters.nodes };
    const request = (node: number) =>
      direct.sql<{ request: string }>(node, 'select request::text from pgquorum.version_docs where id = $1', [
        id,
      ]);
    expect(await request(0)).toEqual(await request(1));
    await masters.nodes[1]!.stop();
    await until('n1 is up', async () => (await upsert(gateway, [id!])).status === 200);
    proxy.toClient.cutWithin = (piece) => piece.includes('COMMIT\0');
    expect(await upsert(gateway, [id!])).toMatchObject({
      status: 504,
      body: { code: 'write_outcome_unknown' },
    });
  } finally {
    await proxy[Symbol.asyncDispose]();
  }
}, 120_000);

test('a master that answers nothing any more holds a write up only until it is found out', async () => {
  await using masters = await startMasters({ count: 2 });
  const proxy = await FaultProxy.beforeUrl(masters.nodes[0]!.url);
  try {
    await using gateway = await startGateway({
      nodes: [{ name: 'n1', zone: 'z', url: proxy.through(masters.nodes[0]!.url) }, masters.nodes[1]!],
      cluster: 'silent',
    });
    await gateway.send('PUT', '/v1/collections/docs', { body: { dimension: 3 } });
    const ids = idsOf('key', 20);
    await upsert(gateway, ids);
    proxy.blackHole();
    const written = await upsert(gateway, ids);
    expect(written.status).toBe(200);
    expect(written.body.results.every((result) => result.coordinator === 'n2')).toBe(true);
    const startedAt = performance.now();
    await upsert(gateway, ids);
    expect(performance.now() - startedAt).toBeLessThan(1000);
  } finally {
    await proxy[Symbol.asyncDispose]();
  }
}, 120_000);
