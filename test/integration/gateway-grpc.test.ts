/** The same verbs over gRPC, with a plain client that has only the .proto files. */
import { join } from 'node:path';
import grpc from '@grpc/grpc-js';
import { loadSync } from '@grpc/proto-loader';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import protobuf from 'protobufjs';
import { projectRoot } from '#core/config/project-root.files.ts';
import { freshGateway, type TestGateway } from './gateway-fixture.ts';

const definition = loadSync(
  ['vectors', 'collections', 'replication', 'cluster'].map((name) => `pgquorum/v1/${name}.proto`),
  { includeDirs: [join(projectRoot, 'libs/core/proto')], longs: String, defaults: true },
);
const health = loadSync('health/v1/health.proto', {
  includeDirs: [join(projectRoot, 'node_modules/grpc-health-check/proto')],
  enums: String,
});
const reflection = loadSync('grpc/reflection/v1/reflection.proto', {
  includeDirs: [join(projectRoot, 'node_modules/@grpc/reflection/build/proto')],
  keepCase: false,
});

type Answer = Record<string, unknown>;
type Failure = grpc.ServiceError;

let gateway: TestGateway;
const clients: grpc.Client[] = [];

beforeAll(async () => {
  gateway = await freshGateway({ env: { PGQUORUM_API_KEYS: 'the-key' } });
}, 120_000);

afterAll(async () => {
  for (const client of clients) client.close();
  await gateway[Symbol.asyncDispose]();
});

const address = () => `127.0.0.1:${gateway.gateway.grpcPort}`;

interface CallOptions {
  readonly key?: string | null;
  readonly deadlineMs?: number;
  readonly cancelAfterMs?: number;
}

function call(path: string, request: object, options: CallOptions = {}): Promise<Answer> {
  const [service, name] = path.split('/') as [string, string];
  const method = ({ ...definition, ...health } as Record<string, grpc.ServiceDefinition>)[service]![name]!;
  const client = new grpc.Client(address(), grpc.credentials.createInsecure());
  clients.push(client);
  const metadata = new grpc.Metadata();
  if (options.key !== null) metadata.set('authorization', `Bearer ${options.key ?? 'the-key'}`);
  return new Promise((resolve, reject) => {
    const sent = client.makeUnaryRequest(
      method.path,
      method.requestSerialize,
      method.responseDeserialize,
      request,
      metadata,
      { deadline: Date.now() + (options.deadlineMs ?? 20_000) },
      (error, response) => (error === null ? resolve(response as Answer) : reject(error as Error)),
    );
    if (options.cancelAfterMs !== undefined) setTimeout(() => sent.cancel(), options.cancelAfterMs);
  });
}

const { root } = protobuf.parse(
  `syntax = "proto3";
  message Any { string type_url = 1; bytes value = 2; }
  message Status { int32 code = 1; string message = 2; repeated Any details = 3; }
  message ErrorInfo { string reason = 1; string domain = 2; map<string, string> metadata = 3; }`,
  { keepCase: true },
);

/** The code in the ErrorInfo of a failed call. */
async function failure(
  promise: Promise<unknown>,
): Promise<{ status: string; reason: string; domain: string }> {
  const error = await promise.then(
    () => {
      throw new Error('the call succeeded');
    },
    (cause: unknown) => cause as Failure,
  );
  const details = error.metadata.get('grpc-status-details-bin')[0] as Buffer;
  const status = root.lookupType('Status').decode(details) as unknown as {
    details: { type_url: string; value: Buffer }[];
  };
  expect(status.details[0]!.type_url).toBe('type.googleapis.com/google.rpc.ErrorInfo');
  const { reason, domain } = root.lookupType('ErrorInfo').decode(status.details[0]!.value) as unknown as {
    reason: string;
    domain: string;
  };
  return { status: grpc.status[error.code]!, reason, domain };
}

const f32le = (...numbers: number[]) => Buffer.from(new Float32Array(numbers).buffer);

test('a collection and its vectors are made, read, found and deleted', async () => {
  const put = () =>
    call('pgquorum.v1.Collections/Put', { name: 'docs', definition: { dimension: 3, metric: 'l2' } });
  expect(await put()).toMatchObject({
    created: true,
    collection: { name: 'docs', definition: { dimension: 3, metric: 'l2', vectorType: 'vector' } },
  });
  expect(await put()).toMatchObject({ created: false });
  expect(await call('pgquorum.v1.Collections/List', {})).toMatchObject({ items: [{ name: 'docs' }] });
  const written = await call('pgquorum.v1.Vectors/Upsert', {
    collection: 'docs',
    vectors: [
      { id: 'a', embedding: { f32le: f32le(1, 2, 3) }, metadataJson: '{"n": 12345678901234567891}' },
      { id: 'b', embedding: { values: [4, 5, 6] } },
      { id: 'c' },
      { id: 'd', embedding: { values: [1] } },
    ],
  });
  expect(written).toMatchObject({
    consistency: 'one',
    results: [
      {
        id: 'a',
        version: { hlc: expect.stringMatching(/^\d{15,}$/), clock: { counters: expect.any(Object) } },
        acks: [expect.any(String)],
      },
      { id: 'b' },
      { id: 'c' },
      { id: 'd', error: { code: 'dimension_mismatch' } },
    ],
  });
  const read = await call('pgquorum.v1.Vectors/Get', { collection: 'docs', ids: ['a', 'c', 'nothing'] });
  expect(read).toMatchObject({
    results: [
      { id: 'a', embedding: { f32le: f32le(1, 2, 3) }, metadataJson: '{"n":12345678901234567891}' },
      { id: 'c' },
      { error: { code: 'vector_not_found' } },
    ],
  });
  expect(
    (await gateway.send('GET', '/v1/collections/docs/vectors/b', { headers: { 'x-api-key': 'the-key' } }))
      .body,
  ).toMatchObject({ embedding: [4, 5, 6] });
  for (const node of [0, 1, 2])
    await gateway.sql(
      node,
      `insert into docs (id, embedding, metadata) values ('here', '[1,2,3]', '{"k": 1}') on conflict (id) do nothing`,
    );
  expect(
    await call('pgquorum.v1.Vectors/Search', {
      collection: 'docs',
      embedding: { values: [1, 2, 3] },
      k: 1,
      filterJson: '{"k": {"$gte": 1}}',
      include: ['embedding', 'metadata', 'version'],
    }),
  ).toMatchObject({
    matches: [
      {
        id: 'here',
        distance: 0,
        score: 1,
        embedding: { f32le: f32le(1, 2, 3) },
        metadataJson: '{"k":1}',
        version: { counter: expect.any(String) },
      },
    ],
    shardsTotal: 64,
  });
  expect(
    await call('pgquorum.v1.Vectors/Delete', { collection: 'docs', ids: ['a', 'nothing'] }),
  ).toMatchObject({ results: [{ id: 'a' }, { error: { code: 'vector_not_found' } }] });
}, 120_000);

test('errors carry their code', async () => {
  expect(
    await failure(call('pgquorum.v1.Vectors/Upsert', { collection: 'nothing', vectors: [{ id: 'a' }] })),
  ).toEqual({ status: 'NOT_FOUND', reason: 'collection_not_found', domain: 'pgquorum' });
  expect(
    await failure(
      call('pgquorum.v1.Vectors/Upsert', {
        collection: 'docs',
        vectors: [{ id: 'a', embedding: { f32le: f32le(1, NaN, 3) } }],
      }),
    ),
  ).toMatchObject({ status: 'INVALID_ARGUMENT', reason: 'invalid_vector' });
  expect(
    await failure(
      call('pgquorum.v1.Vectors/Upsert', { collection: 'docs', vectors: [{ id: 'a', metadataJson: '{' }] }),
    ),
  ).toMatchObject({ reason: 'malformed_json' });
  expect(
    await failure(call('pgquorum.v1.Vectors/Upsert', { collection: 'docs', vectors: [{}] })),
  ).toMatchObject({ reason: 'invalid_key' });
  expect(
    await failure(
      call('pgquorum.v1.Vectors/Upsert', {
        collection: 'docs',
        vectors: [{ id: 'a' }],
        options: { consistency: 'most' },
      }),
    ),
  ).toMatchObject({ status: 'INVALID_ARGUMENT', reason: 'invalid_request' });
  expect(
    await failure(call('pgquorum.v1.Collections/Put', { name: 'docs', definition: { dimension: 4 } })),
  ).toMatchObject({ status: 'ALREADY_EXISTS', reason: 'collection_exists' });
  expect(await failure(call('pgquorum.v1.Replication/GetConflict', { id: 'x' }))).toMatchObject({
    status: 'NOT_FOUND',
    reason: 'conflict_not_found',
  });
});

test('an idempotency key counts here too', async () => {
  const write = (value: number) =>
    call('pgquorum.v1.Vectors/Upsert', {
      collection: 'docs',
      vectors: [{ id: 'keyed', embedding: { values: [value, 1, 1] } }],
      options: { idempotencyKey: 'k' },
    });
  expect(await write(1)).toEqual(await write(1));
  expect(await failure(write(2))).toMatchObject({
    status: 'ALREADY_EXISTS',
    reason: 'idempotency_key_reused',
  });
});

test('every service needs the key, health does not', async () => {
  for (const path of [
    'pgquorum.v1.Vectors/Get',
    'pgquorum.v1.Collections/List',
    'pgquorum.v1.Cluster/ListNodes',
    'pgquorum.v1.Replication/Lag',
  ]) {
    expect(await failure(call(path, {}, { key: null }))).toMatchObject({
      status: 'UNAUTHENTICATED',
      reason: 'unauthenticated',
    });
    expect(await failure(call(path, {}, { key: 'wrong' }))).toMatchObject({ status: 'UNAUTHENTICATED' });
  }
  expect(await call('grpc.health.v1.Health/Check', {}, { key: null })).toMatchObject({ status: 'SERVING' });
  expect(
    await call('grpc.health.v1.Health/Check', { service: 'pgquorum.v1.Vectors' }, { key: null }),
  ).toMatchObject({ status: 'SERVING' });
});

test('a deadline and a cancellation end a write that waits', async () => {
  const { results } = (await call('pgquorum.v1.Vectors/Upsert', {
    collection: 'docs',
    vectors: [{ id: 'locked' }],
  })) as { results: { coordinator: string }[] };
  const node = gateway.nodes.findIndex((one) => one.name === results[0]!.coordinator);
  const { default: pg } = await import('pg');
  const holder = new pg.Client(gateway.nodes[node]!.url);
  await holder.connect();
  try {
    await holder.query(`begin; select from docs where id = 'locked' for update`);
    const write = (options: CallOptions) =>
      call(
        'pgquorum.v1.Vectors/Upsert',
        { collection: 'docs', vectors: [{ id: 'locked', embedding: { values: [9, 9, 9] } }] },
        options,
      );
    await expect(write({ deadlineMs: 300 })).rejects.toMatchObject({ code: grpc.status.DEADLINE_EXCEEDED });
    await expect(write({ cancelAfterMs: 200 })).rejects.toMatchObject({ code: grpc.status.CANCELLED });
    const waiting = () =>
      gateway.sql<{ count: number }>(
        node,
        `select count(*)::int as count from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'`,
      );
    const deadline = Date.now() + 5000;
    while ((await waiting())[0]!.count > 0 && Date.now() < deadline)
      await new Promise((resolve) => setTimeout(resolve, 20));
    expect(await waiting()).toEqual([{ count: 0 }]);
  } finally {
    await holder.end();
  }
  expect(await call('pgquorum.v1.Vectors/Get', { collection: 'docs', ids: ['locked'] })).toMatchObject({
    results: [{ id: 'locked', embedding: null }],
  });
}, 120_000);

test('nodes, health, lag, replicas and conflicts are told', async () => {
  expect(await call('pgquorum.v1.Cluster/ListNodes', {})).toMatchObject({
    items: [{ id: 'n1', number: 1, zone: 'z1' }, { id: 'n2' }, { id: 'n3' }],
  });
  expect(await call('pgquorum.v1.Cluster/GetHealth', {})).toMatchObject({ totalNodes: 3 });
  expect(((await call('pgquorum.v1.Replication/Lag', {})) as { edges: object[] }).edges).toHaveLength(6);
  expect(
    ((await call('pgquorum.v1.Replication/ListReplicas', {})) as { items: object[] }).items,
  ).toHaveLength(3);
  expect(await call('pgquorum.v1.Replication/ListConflicts', {})).toMatchObject({
    items: [],
    nextCursor: '',
  });
});

function listServices(key: string | null): Promise<string[]> {
  const service = (reflection as unknown as Record<string, grpc.ServiceDefinition>)[
    'grpc.reflection.v1.ServerReflection'
  ]!;
  const method = service['ServerReflectionInfo']!;
  const client = new grpc.Client(address(), grpc.credentials.createInsecure());
  clients.push(client);
  const metadata = new grpc.Metadata();
  if (key !== null) metadata.set('x-api-key', key);
  const stream = client.makeBidiStreamRequest(
    method.path,
    method.requestSerialize,
    method.responseDeserialize,
    metadata,
  );
  return new Promise((resolve, reject) => {
    stream.on('data', (answer: { listServicesResponse: { service: { name: string }[] } }) => {
      resolve(answer.listServicesResponse.service.map((one) => one.name));
      stream.end();
    });
    stream.on('error', reject);
    stream.write({ listServices: '*' });
  });
}

test('reflection names the services to those who have a key', async () => {
  expect(await listServices('the-key')).toEqual(
    expect.arrayContaining([
      'pgquorum.v1.Vectors',
      'pgquorum.v1.Collections',
      'pgquorum.v1.Replication',
      'pgquorum.v1.Cluster',
    ]),
  );
  expect(await failure(listServices(null))).toMatchObject({
    status: 'UNAUTHENTICATED',
    reason: 'unauthenticated',
  });
});
