/** The client against a gateway, through a proxy that loses answers, breaks streams and is busy. */
import { afterAll, afterEach, beforeAll, describe, expect, test } from '@jest/globals';
import { routeContracts } from '../../apps/gateway/src/contract/document.ts';
import { PgquorumClient, type Change, type WrittenItem } from '../../libs/client/index.ts';
import { FaultyProxy } from './client/faulty-proxy.ts';
import { freshGateway, type TestGateway } from './gateway-fixture.ts';
import { operationOf } from './openapi/exchange.ts';

let gateway: TestGateway;
let proxy: FaultyProxy;
let client: PgquorumClient;

beforeAll(async () => {
  gateway = await freshGateway({ count: 2 });
  proxy = await FaultyProxy.open(`http://127.0.0.1:${gateway.gateway.httpPort}`);
  client = new PgquorumClient({ url: proxy.url });
  await client.collections.put('docs', { dimension: 2 });
}, 120_000);
afterEach(() => {
  proxy.faults = [];
  proxy.seen.length = 0;
});
afterAll(async () => {
  await proxy[Symbol.asyncDispose]();
  await gateway[Symbol.asyncDispose]();
});

const busy = (status: number, headers?: Record<string, string>) =>
  ({ kind: 'answer', status, headers }) as const;

test('writes whose answers are lost are repeated under one key, and written once', async () => {
  const counters: number[] = [];
  for (const write of [
    async () => (await client.vectors.upsert('docs', [{ id: 'lost', embedding: [1, 0] }])).results[0],
    () => client.vectors.patch('docs', 'lost', { metadata: { a: 1 } }),
    () => client.vectors.delete('docs', 'lost'),
  ]) {
    proxy.seen.length = 0;
    proxy.faults = [{ kind: 'lost' }];
    counters.push(Number(((await write()) as WrittenItem).version.counter));
    const keys = proxy.seen.map(({ headers }) => headers['idempotency-key']);
    expect(keys).toHaveLength(2);
    expect(keys[0]).toMatch(/^[0-9a-f-]{36}$/);
    expect(new Set(keys).size).toBe(1);
  }
  // Each write of a node has the next number.
  expect(counters).toEqual([counters[0], counters[0]! + 1, counters[0]! + 2]);
});

describe('what is repeated, and what is not:', () => {
  test.each([429, 502, 503, 504])('a read after %d', async (status) => {
    proxy.faults = [busy(status), busy(status)];
    expect((await client.collections.get('docs')).name).toBe('docs');
    expect(proxy.seen).toHaveLength(3);
  });

  test('Retry-After is waited for', async () => {
    proxy.faults = [busy(503, { 'retry-after': '1' })];
    const startedAt = performance.now();
    await client.cluster.health();
    expect(performance.now() - startedAt).toBeGreaterThan(990);
  });

  test('no more often than it may be, and in no more time than there is', async () => {
    proxy.faults = [busy(503), busy(503), busy(503)];
    await expect(client.cluster.health({ retries: 1 })).rejects.toMatchObject({ status: 503 });
    expect(proxy.seen).toHaveLength(2);
    proxy.faults = [busy(503, { 'retry-after': '30' })];
    await expect(client.cluster.health({ deadlineMs: 300 })).rejects.toMatchObject({
      code: 'deadline_exceeded',
    });
  });

  test('a job is begun once, unless the gateway was too busy to begin it', async () => {
    proxy.faults = [{ kind: 'lost' }];
    await expect(client.replication.preflight()).rejects.toMatchObject({ code: 'connection_failed' });
    expect(proxy.seen).toHaveLength(1);
    proxy.faults = [busy(503)];
    await expect(client.replication.preflight()).rejects.toMatchObject({ status: 503 });
    proxy.faults = [busy(429)];
    expect((await client.replication.preflight()).job.state).toBe('waiting');
  });

  test('a mistake is not repeated', async () => {
    await expect(client.collections.get('nobody')).rejects.toMatchObject({
      code: 'collection_not_found',
      status: 404,
      requestId: expect.any(String),
    });
    expect(proxy.seen).toHaveLength(1);
  });
});

test('a stream of changes that breaks goes on behind the last one that it gave', async () => {
  const from = await client.position('docs');
  const ids = Array.from({ length: 20 }, (_, at) => `s${at}`);
  for (const id of ids) await client.vectors.upsert('docs', [{ id, embedding: [1, 1] }]);
  proxy.seen.length = 0;
  proxy.faults = [{ kind: 'cut', afterBytes: 3000 }, busy(503)];
  const told: Change[] = [];
  for await (const change of client.changes('docs', { from })) {
    told.push(change);
    if (new Set(told.map(({ key }) => key)).size === ids.length) break;
  }
  expect(new Set(told.map(({ key }) => key))).toEqual(new Set(ids));
  expect(told.every(({ op, row }) => op === 'upsert' && row !== null)).toBe(true);
  expect(proxy.seen.map(({ headers }) => headers['last-event-id'] !== undefined)).toEqual([
    false,
    true,
    true,
  ]);
});

test('a signal ends a stream, and a position that is none is told', async () => {
  const events = client.events({ signal: AbortSignal.timeout(100) });
  expect(await events.next()).toEqual({ done: true, value: undefined });
  await expect(client.changes('docs', { from: 'elsewhere' }).next()).rejects.toMatchObject({
    code: 'invalid_request',
  });
});

test('waiting for a job that somebody cancels ends with an error that says so', async () => {
  const started = await client.replication.preflight();
  const seen: string[] = [];
  const waiting = client.jobs.wait(started, { onProgress: ({ state }) => seen.push(state) });
  await client.jobs.cancel(started.job.id);
  await expect(waiting).rejects.toMatchObject({ code: 'job_cancelled' });
  expect(seen.at(-1)).toBe('cancelled');
  const late = await client.replication.preflight();
  await expect(client.jobs.wait(late, { deadlineMs: 300 })).rejects.toMatchObject({
    code: 'deadline_exceeded',
  });
});

test('there is a method for every route', async () => {
  const ignored = () => undefined; // what it answers is not the question
  const id = '00000000-0000-4000-8000-000000000000';
  const calls: (() => Promise<unknown>)[] = [
    () => client.collections.list(),
    () => client.collections.get('docs'),
    () => client.collections.put('docs', { dimension: 2 }),
    () => client.collections.change('docs', { conflicts: {} }),
    () => client.collections.attach('nobody', { table: 'public.nobody' }),
    () => client.collections.detach('nobody'),
    () => client.collections.ddl('nobody', 'create index on nobody (id)'),
    () => client.collections.drop('nobody'),
    () => client.vectors.upsert('docs', [{ id: 'a b/c', embedding: new Float32Array([1, 2]) }]),
    () => client.vectors.get('docs', 'a b/c', { include: 'siblings' }),
    () => client.vectors.getAll('docs', ['a b/c']),
    () => client.vectors.patch('docs', 'a b/c', { metadata: {} }),
    () => client.vectors.search('docs', { id: 'a b/c' }),
    () => client.vectors.delete('docs', 'a b/c'),
    () => client.vectors.deleteAll('docs', ['a b/c']),
    () => client.conflicts.list({ noise: false, limit: 1 }),
    () => client.conflicts.count(),
    () => client.conflicts.get(id),
    () => client.conflicts.restore(id),
    () => client.conflicts.resolve(id, { metadata: {} }),
    () => client.deadLetters.list(),
    () => client.deadLetters.get('n1.1'),
    () => client.deadLetters.replay('n1.1'),
    () => client.deadLetters.discard('n1.1'),
    () => client.replication.lag(),
    () => client.replication.replicas(),
    () => client.replication.addReplica({ name: 'n1', url: 'postgres://nowhere' }),
    () => client.replication.removeReplica('nobody', { lost: true }),
    () => client.replication.syncReplica('nobody'),
    () => client.replication.throttle(),
    () => client.replication.setThrottle({ bytesPerSecond: null }),
    () => client.replication.verify({ repair: 'none' }),
    () => client.replication.preflight(),
    () => client.cluster.health(),
    () => client.cluster.nodes(),
    () => client.cluster.shards('docs'),
    () => client.cluster.shardOf('docs', 'a b/c'),
    () => client.cluster.moveShard('docs', 0, { from: 'n1', to: 'n2' }),
    () => client.cluster.overview(),
    () => client.jobs.list(),
    () => client.jobs.get(id),
    () => client.jobs.cancel(id),
    () => client.events({ signal: AbortSignal.timeout(50) }).next(),
    () => client.position('docs'),
    () => client.ready(),
    () => client.alive(),
    () => client.metrics(),
    () => client.document(),
  ];
  const refused: unknown[] = [];
  for (const call of calls)
    await call().then(ignored, (error: { code: string; status: number }) => refused.push(error.code));
  expect(refused).not.toContain('unknown_field');
  expect(refused).not.toContain('route_not_found');
  const called = proxy.seen.map(({ method, path }) => operationOf(method, path.split('?')[0]!)?.operationId);
  const routes = routeContracts.map((route) => route.id).filter((route) => route !== 'getDashboard');
  expect(new Set(called)).toEqual(new Set(routes));
});
