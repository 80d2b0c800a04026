/** Patches, CRDT fields and embedding models over gRPC. */
import grpc from '@grpc/grpc-js';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { freshGateway, type TestGateway } from './gateway-fixture.ts';
import { GrpcClient } from './grpc-client.ts';

let gateway: TestGateway;
let client: GrpcClient;

beforeAll(async () => {
  gateway = await freshGateway({ count: 1 });
  client = new GrpcClient(gateway.gateway.grpcPort);
  const conflicts = {
    strategy: 'crdt',
    crdt: { views: 'g-counter', stock: 'pn-counter', title: 'lww-register', tags: 'or-set' },
    models: ['small', 'large'],
  };
  const made = await gateway.send('PUT', '/v1/collections/docs', { body: { dimension: 3, conflicts } });
  expect(made.status).toBe(201);
}, 120_000);

afterAll(async () => {
  client[Symbol.dispose]();
  await gateway[Symbol.asyncDispose]();
});

const f32le = (...numbers: number[]) => Buffer.from(new Float32Array(numbers).buffer);
const upsert = (...vectors: object[]) => client.call('Vectors', 'Upsert', { collection: 'docs', vectors });
const patch = (id: string, body: object) =>
  client.call('Vectors', 'Patch', { collection: 'docs', id, ...body });
const read = async (id: string) =>
  ((await client.call('Vectors', 'Get', { collection: 'docs', ids: [id] })) as { results: object[] })
    .results[0]!;

/** The status of a failed call, and whether its details carry this code. */
const failure = async (call: Promise<unknown>, code: string) => {
  const error = await call.then(
    () => {
      throw new Error('the call succeeded');
    },
    (cause: unknown) => cause as grpc.ServiceError,
  );
  const details = error.metadata.get('grpc-status-details-bin')[0] as Buffer;
  expect([code, details.includes(code), error.details]).toEqual([code, true, error.details]);
  return { status: grpc.status[error.code], message: error.details };
};

interface Written {
  readonly results: [
    { version: { text: string; counter: string }; operation: object | null; coordinator: string },
  ];
}

test('a patch changes row and fields, and reads and searches show them', async () => {
  const before = (await upsert({
    id: 'a',
    embedding: { values: [1, 2, 3] },
    metadataJson: '{"n":1,"gone":2}',
  })) as unknown as Written;
  const counted = (await patch('a', { crdt: { views: { increment: '2' } } })) as unknown as Written;
  expect(counted).toMatchObject({
    results: [
      { id: 'a', coordinator: 'n1', acks: ['n1'], operation: { origin: 'n1', counter: expect.any(String) } },
    ],
    consistency: 'one',
  });
  expect(counted.results[0].version.text).toBe(before.results[0].version.text);
  const done = (await patch('a', {
    metadataJson: '{"gone":null,"big":12345678901234567891}',
    embedding: { f32le: f32le(3, 2, 1) },
    model: 'small',
    crdt: {
      views: { increment: '1' },
      stock: { decrement: '9007199254740991' },
      title: { setJson: '{"de":"Titel"}' },
      tags: { addJson: '"x"' },
    },
    ifMatch: before.results[0].version.text,
  })) as unknown as Written;
  expect(done.results[0].version.text).not.toBe(before.results[0].version.text);
  const crdtJson = expect.stringContaining('"stock":-9007199254740991') as unknown;
  const stored = (await read('a')) as { crdtJson: string };
  expect(stored).toMatchObject({
    embedding: { f32le: f32le(3, 2, 1) },
    metadataJson: '{"n":1,"big":12345678901234567891}',
    model: 'small',
    crdtJson,
  });
  expect(JSON.parse(stored.crdtJson)).toEqual({
    views: 3,
    stock: -9_007_199_254_740_991,
    title: { de: 'Titel' },
    tags: ['x'],
  });
  expect(
    await client.call('Vectors', 'Search', {
      collection: 'docs',
      id: 'a',
      include: ['crdt'],
      filterJson: '{"crdt.tags":{"$contains":"x"}}',
    }),
  ).toMatchObject({ matches: [{ id: 'a', crdtJson }] });
  await patch('a', { clearEmbedding: true, crdt: { tags: { removeJson: '"x"' } } });
  const cleared = (await read('a')) as { embedding: unknown; crdtJson: string };
  expect(cleared.embedding).toBeNull();
  expect(JSON.parse(cleared.crdtJson)).toMatchObject({ tags: [] });
});

test('a repeat under an idempotency key counts once', async () => {
  await upsert({ id: 'k' });
  const send = () => patch('k', { crdt: { views: { increment: '5' } }, options: { idempotencyKey: 'once' } });
  expect(await send()).toEqual(await send());
  expect(JSON.parse(((await read('k')) as { crdtJson: string }).crdtJson)).toMatchObject({ views: 5 });
  await failure(
    patch('k', { crdt: { views: { increment: '6' } }, options: { idempotencyKey: 'once' } }),
    'idempotency_key_reused',
  );
});

test('items name models, and one of an earlier model fails alone', async () => {
  await upsert({ id: 'm', model: 'large' });
  expect(await read('m')).toMatchObject({ model: 'large' });
  expect(
    await upsert({ id: 'm', model: 'small' }, { id: 'm2', model: 'small' }, { id: 'm3', model: 'tiny' }),
  ).toMatchObject({
    results: [
      { error: { code: 'model_outdated' } },
      { id: 'm2', error: null },
      { error: { code: 'model_unknown' } },
    ],
  });
  expect(await read('m2')).toMatchObject({ model: 'small' });
  expect(await failure(upsert({ id: 'm', model: 'small' }), 'model_outdated')).toMatchObject({
    status: 'FAILED_PRECONDITION',
  });
});

test('bad patches have the codes that HTTP has, and change nothing', async () => {
  const { results } = (await upsert({
    id: 'bad',
    metadataJson: '{"n":1}',
    model: 'large',
  })) as unknown as Written;
  const before = await read('bad');
  const row = { metadataJson: '{"n":2}' };
  const cases: [body: object, status: string, code: string][] = [
    [{}, 'INVALID_ARGUMENT', 'invalid_request'],
    [{ crdt: { likes: { increment: '1' } }, ...row }, 'INVALID_ARGUMENT', 'crdt_unknown_field'],
    [{ crdt: { views: { decrement: '1' } }, ...row }, 'INVALID_ARGUMENT', 'crdt_wrong_operation'],
    [{ crdt: { views: {} }, ...row }, 'INVALID_ARGUMENT', 'crdt_wrong_operation'],
    [{ crdt: { views: { increment: '0' } }, ...row }, 'INVALID_ARGUMENT', 'crdt_bad_value'],
    [
      { crdt: { views: { increment: '18446744073709551615' } }, ...row },
      'INVALID_ARGUMENT',
      'crdt_bad_value',
    ],
    [{ crdt: { tags: { addJson: '' } }, ...row }, 'INVALID_ARGUMENT', 'crdt_bad_value'],
    [{ crdt: { tags: { addJson: '{' } }, ...row }, 'INVALID_ARGUMENT', 'malformed_json'],
    [{ embedding: { values: [1] }, ...row }, 'INVALID_ARGUMENT', 'dimension_mismatch'],
    [
      { embedding: { values: [1, 2, 3] }, clearEmbedding: true, ...row },
      'INVALID_ARGUMENT',
      'invalid_request',
    ],
    [{ model: 'tiny', ...row }, 'INVALID_ARGUMENT', 'model_unknown'],
    [{ model: 'small', ...row }, 'FAILED_PRECONDITION', 'model_outdated'],
    [{ ifMatch: 'soon', ...row }, 'INVALID_ARGUMENT', 'invalid_request'],
    [{ options: { consistency: 'most' }, ...row }, 'INVALID_ARGUMENT', 'invalid_request'],
  ];
  for (const [body, status, code] of cases)
    expect(await failure(patch('bad', body), code)).toMatchObject({ status });
  const stale = await failure(patch('bad', { ifMatch: '1.999999', ...row }), 'version_mismatch');
  expect(stale.status).toBe('ABORTED');
  expect(stale.message).toContain(results[0].version.text);
  expect(await failure(patch('none', row), 'vector_not_found')).toMatchObject({ status: 'NOT_FOUND' });
  expect(await read('bad')).toEqual(before);
});
