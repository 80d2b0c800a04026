/** Attach and detach as a gateway offers them, with the job run by a replicator. */
import type { INestApplicationContext } from '@nestjs/common';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { createLogger } from '#core/observability/logger.process.ts';
import { freshNodes } from '#core/testing/fresh-nodes.pg.ts';
import { eventually } from '#core/testing/wait.process.ts';
import { startReplicator } from '../../apps/replicator/src/app.module.ts';
import { settingsFor, startGateway, type TestGateway } from './gateway-fixture.ts';
import { GrpcClient } from './grpc-client.ts';

let fresh: Awaited<ReturnType<typeof freshNodes>>;
let gateway: TestGateway;
let replicator: INestApplicationContext;

beforeAll(async () => {
  fresh = await freshNodes({ count: 3 });
  gateway = await startGateway(fresh);
  replicator = await startReplicator(
    settingsFor(fresh.nodes, fresh.cluster),
    createLogger({ app: 'test', level: 'silent' }),
  );
  await gateway.sql(
    0,
    `create table public.items (id uuid primary key, title text, embedding halfvec(3), metadata jsonb)`,
  );
  await gateway.sql(
    0,
    `insert into items select md5(i::text)::uuid, 'item ' || i, '[1,2,3]', '{}' from generate_series(1, 200) i`,
  );
}, 120_000);

afterAll(async () => {
  await replicator.close();
  await gateway[Symbol.asyncDispose]();
  await fresh[Symbol.asyncDispose]();
});

const jobDone = (id: string) =>
  eventually('the job is done', async () => {
    const { body } = await gateway.send('GET', `/v1/jobs/${id}`);
    const { state, error } = body as { state: string; error?: unknown };
    if (state === 'failed') throw new Error(JSON.stringify(error));
    return state === 'done';
  });

const count = async (node: number): Promise<number> =>
  (await gateway.sql<{ n: number }>(node, 'select count(*)::int as n from items'))[0]!.n;

test('a table is attached by a job that says done when its rows are on all masters; detach gives it back', async () => {
  const answer = await gateway.send('POST', '/v1/collections/items/attach', {
    body: { table: 'public.items' },
  });
  expect(answer).toMatchObject({
    status: 202,
    body: { job: { state: 'waiting', progress: { unit: 'rows' } }, created: ['n2', 'n3'], warnings: [] },
  });
  const { job } = answer.body as { job: { id: string } };
  expect(answer.headers.get('location')).toBe(`/v1/jobs/${job.id}`);
  await jobDone(job.id);
  expect(await Promise.all([0, 1, 2].map(count))).toEqual([200, 200, 200]);
  expect((await gateway.send('GET', '/v1/collections/items')).body).toMatchObject({
    rows: 200,
    definition: {
      vectorType: 'halfvec',
      dimension: 3,
      attached: { embedding: 'embedding', metadata: 'metadata', updatedAt: null },
    },
  });
  // Repeating it finishes what was left, which is nothing.
  const again = await gateway.send('POST', '/v1/collections/items/attach', {
    body: { table: 'public.items' },
  });
  expect(again).toMatchObject({ status: 202, body: { created: [] } });
  await jobDone((again.body as { job: { id: string } }).job.id);
  expect(await gateway.send('DELETE', '/v1/collections/items')).toMatchObject({
    status: 409,
    body: { code: 'collection_attached' },
  });
  expect(
    await gateway.send('PATCH', '/v1/collections/items', {
      body: { conflicts: { strategy: 'crdt', crdt: { n: 'g-counter' } } },
    }),
  ).toMatchObject({ status: 501, body: { code: 'not_supported' } });
  expect(await gateway.send('POST', '/v1/collections/items/detach')).toMatchObject({ status: 204 });
  expect(await count(1)).toBe(200);
  await gateway.sql(1, `delete from items where title = 'item 7'`);
  expect(await Promise.all([0, 1, 2].map(count))).toEqual([200, 199, 200]);
  expect(await gateway.send('POST', '/v1/collections/items/detach')).toMatchObject({
    status: 404,
    body: { code: 'collection_not_found' },
  });
});

test('what can not be attached is refused with every reason, and requests that are no good by their field', async () => {
  await gateway.sql(1, 'create unlogged table public.bad (id integer, email text unique)');
  expect(
    await gateway.send('POST', '/v1/collections/bad/attach', { body: { table: 'public.bad' } }),
  ).toMatchObject({
    status: 409,
    body: {
      code: 'attach_refused',
      refusals: [
        {
          node: 'n2',
          reason: expect.stringMatching(/unlogged/),
          wayOut: expect.stringMatching(/set logged/),
        },
        { node: 'n2', reason: expect.stringMatching(/no primary key/) },
        { node: 'n2', reason: expect.stringMatching(/beside its key/) },
      ],
    },
  });
  const bad: [object, string][] = [
    [{}, 'invalid_request'],
    [{ table: 'items' }, 'invalid_request'],
    [{ table: 'public.items', odd: 1 }, 'unknown_field'],
    [{ table: 'public.items', embedding: 'title' }, 'invalid_request'],
    [{ table: 'public.items', metric: 'hamming' }, 'invalid_request'],
    [{ table: 'public.items', conflicts: { strategy: 'custom', resolver: 'sql:a.b' } }, 'not_supported'],
  ];
  for (const [body, code] of bad)
    expect((await gateway.send('POST', '/v1/collections/bad/attach', { body })).body).toMatchObject({ code });
  await gateway.send('PUT', '/v1/collections/own', { body: { dimension: 3 } });
  expect(await gateway.send('POST', '/v1/collections/own/detach')).toMatchObject({
    status: 409,
    body: { code: 'not_attached' },
  });
});

test('gRPC has the same verbs', async () => {
  using client = new GrpcClient(gateway.gateway.grpcPort);
  await gateway.sql(2, 'create table public.by_grpc (id integer primary key, v vector(2), at timestamptz)');
  const answer = (await client.call('Collections', 'Attach', {
    name: 'by_grpc',
    table: 'public.by_grpc',
    updatedAtColumn: 'at',
    allow: { sequences: true },
  })) as { job: { id: string } };
  expect(answer).toMatchObject({ created: ['n1', 'n2'], job: { kind: 'attach' } });
  await jobDone(answer.job.id);
  expect(await client.call('Collections', 'Get', { name: 'by_grpc' })).toMatchObject({
    definition: { dimension: 2, attached: { embedding: 'v', metadata: '', updatedAt: 'at' } },
  });
  await client.call('Collections', 'Detach', { name: 'by_grpc' });
  expect((await gateway.send('GET', '/v1/collections/by_grpc')).status).toBe(404);
});
