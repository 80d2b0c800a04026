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
}, 120_000);

const jobDone = (id: string) =>
  eventually(
    'the job is done',
    async () => {
      const { body } = await gateway.send('GET', `/v1/jobs/${id}`);
      const { state, error } = body as { state: string; error?: unknown };
      if (state === 'failed') throw new Error(JSON.stringify(error));
      return state === 'done';
    },
    { withinMs: 50_000 },
  );

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
  ).toMatchObject({ status: 400, body: { code: 'not_supported' } });
  expect(await gateway.send('POST', '/v1/collections/items/detach')).toMatchObject({ status: 204 });
  expect(await count(1)).toBe(200);
  await gateway.sql(1, `delete from items where title = 'item 7'`);
  expect(await Promise.all([0, 1, 2].map(count))).toEqual([200, 199, 200]);
  expect(await gateway.send('POST', '/v1/collections/items/detach')).toMatchObject({
    status: 404,
    body: { code: 'collection_not_found' },
  });
}, 120_000);

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
}, 120_000);

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
}, 120_000);

test('routes address rows of an attached table by the text of its key, whatever that is, and say what they can not do', async () => {
  await gateway.sql(
    0,
    `create table public."Odd One" ("select" bigint, day date, "Body Vec" vector(2), distance text not null default 'far', doc jsonb, embedding text, primary key (day, "select"))`,
  );
  await gateway.sql(
    0,
    `insert into "Odd One" select i, '2026-01-31', array[i, 1]::real[]::vector, 'd', jsonb_build_object('n', i) from generate_series(1, 20) i`,
  );
  const answer = await gateway.send('POST', '/v1/collections/odd/attach', {
    body: { table: 'public."Odd One"', metric: 'l2' },
  });
  await jobDone((answer.body as { job: { id: string } }).job.id);
  const id = (day: string, n: number): string => JSON.stringify([day, String(n)]);
  const path = (key: string): string => `/v1/collections/odd/vectors/${encodeURIComponent(key)}`;
  expect(await gateway.send('GET', path(id('2026-01-31', 7)))).toMatchObject({
    status: 200,
    body: { id: id('2026-01-31', 7), embedding: [7, 1], metadata: { n: 7 } },
  });
  const added = id('2026-02-01', -3);
  const written = await gateway.send('POST', '/v1/collections/odd/vectors', {
    headers: { 'idempotency-key': 'once' },
    body: {
      vectors: [
        { id: added, embedding: [7, 1], metadata: { new: true } },
        { id: id('2026-01-31', 2), embedding: [0, 0], metadata: {} },
        { id: '["2026-1-1","2"]', embedding: [0, 0] },
      ],
    },
  });
  expect(written).toMatchObject({
    status: 200,
    body: {
      results: [
        { id: added, version: { counter: expect.anything() } },
        {},
        { error: { code: 'invalid_key' } },
      ],
    },
  });
  for (const node of [0, 1, 2])
    await eventually(`node ${node} follows`, async () => {
      const rows = await gateway.sql(node, `select from "Odd One" where "select" = -3`);
      return rows.length === 1;
    });
  expect(
    await gateway.send('POST', '/v1/collections/odd/search', {
      body: {
        id: id('2026-01-31', 8),
        k: 3,
        include: ['metadata', 'version', 'embedding'],
        filter: { $or: [{ n: { $lt: 9 } }, { new: true }] },
      },
    }),
  ).toMatchObject({
    status: 200,
    body: {
      matches: [
        { id: id('2026-01-31', 8), distance: 0, embedding: [8, 1], metadata: { n: 8 } },
        { distance: 1, version: { counter: expect.anything() } },
        { distance: 1 },
      ],
    },
  });
  const got = await gateway.send('POST', '/v1/collections/odd/vectors/get', {
    body: { ids: [added, id('2020-01-01', 1)] },
  });
  expect(got.body).toMatchObject({
    items: [{ id: added, metadata: { new: true } }, { error: { code: 'vector_not_found' } }],
  });
  expect(await gateway.send('DELETE', path(id('2026-01-31', 2)))).toMatchObject({ status: 200 });
  for (const node of [0, 1, 2])
    await eventually(`node ${node} follows`, async () => {
      const rows = await gateway.sql<{ n: string }>(
        node,
        `select "select" as n from "Odd One" where "select" in (-3, 2)`,
      );
      return rows.length === 1 && rows[0]!.n === '-3';
    });
  const refused: [string, string, object | undefined, string][] = [
    ['GET', path('7'), undefined, 'invalid_key'],
    ['GET', path('["2026-02-30","1"]'), undefined, 'invalid_key'],
    ['GET', path('["2026-01-31", "7"]'), undefined, 'invalid_key'],
    ['GET', path('["2026-01-31","9223372036854775808"]'), undefined, 'invalid_key'],
    ['GET', `${path(added)}?include=siblings`, undefined, 'not_supported'],
    ['PATCH', path(added), { metadata: {} }, 'not_supported'],
  ];
  for (const [method, to, body, code] of refused)
    expect((await gateway.send(method, to, body === undefined ? {} : { body })).body).toMatchObject({ code });

  await gateway.sql(
    0,
    'create table public.plain (id smallint primary key, word text not null, many vector)',
  );
  await gateway.sql(0, `insert into plain values (5, 'five', '[1,2,3]')`);
  const plain = await gateway.send('POST', '/v1/collections/plain/attach', {
    body: { table: 'public.plain' },
  });
  await jobDone((plain.body as { job: { id: string } }).job.id);
  expect((await gateway.send('GET', '/v1/collections/plain/vectors/5')).body).toMatchObject({
    id: '5',
    embedding: [1, 2, 3],
    metadata: null,
  });
  for (const [verb, body] of [
    ['search', { embedding: [1, 2, 3] }],
    ['vectors', { vectors: [{ id: '6', embedding: null }] }],
  ] as const)
    expect((await gateway.send('POST', `/v1/collections/plain/${verb}`, { body })).body).toMatchObject({
      code: 'not_supported',
      detail: expect.stringMatching(/no fixed dimension/),
    });
}, 120_000);

test('what differed between the estates is a conflict, which a call resolves or restores with all its columns', async () => {
  for (const node of [0, 1])
    await gateway.sql(
      node,
      `create table public.disputed (a integer, b text, "The Vector" halfvec(2), doc jsonb, note text, primary key (a, b))`,
    );
  for (const node of [0, 1])
    await gateway.sql(
      node,
      `insert into disputed select i, 'k', '[1,${node}]', '{"node": ${node}}', 'note ${node}' from generate_series(1, 2) i`,
    );
  const answer = await gateway.send('POST', '/v1/collections/disputed/attach', {
    body: { table: 'public.disputed' },
  });
  await jobDone((answer.body as { job: { id: string } }).job.id);
  const records = (
    (await gateway.send('GET', '/v1/conflicts?collection=disputed&state=open')).body as {
      items: { id: string; key: string }[];
    }
  ).items;
  expect(records.map(({ key }) => key).toSorted()).toEqual(['["1","k"]', '["2","k"]']);
  const [first, second] = records.toSorted((one, two) => (one.key < two.key ? -1 : 1));
  expect(
    await gateway.send('POST', `/v1/conflicts/${first!.id}/resolve`, {
      body: { embedding: [9, 9], metadata: { settled: true } },
    }),
  ).toMatchObject({ status: 200 });
  const before = await gateway.sql<{ note: string }>(0, 'select note from disputed where a = 2');
  expect(await gateway.send('POST', `/v1/conflicts/${second!.id}/restore`)).toMatchObject({ status: 200 });
  for (const node of [0, 1, 2])
    await eventually(`node ${node} has both`, async () => {
      const rows = await gateway.sql(
        node,
        `select a, "The Vector"::text as v, doc, note from disputed order by a`,
      );
      const [resolved, restored] = rows as { v: string; doc: object; note: string }[];
      return resolved?.v === '[9,9]' && restored !== undefined && restored.note !== before[0]!.note;
    });
}, 120_000);
