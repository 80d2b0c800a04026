/** Rules for conflicts, and conflicts, over gRPC. */
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { addRecord } from './conflict-records.ts';
import { freshGateway, type TestGateway } from './gateway-fixture.ts';
import { GrpcClient } from './grpc-client.ts';

let gateway: TestGateway;
let client: GrpcClient;

beforeAll(async () => {
  gateway = await freshGateway();
  client = new GrpcClient(gateway.gateway.grpcPort);
  await client.call('Collections', 'Put', {
    name: 'docs',
    definition: { dimension: 3, conflicts: { strategy: 'vector-clock', cosineTolerance: 0.25 } },
  });
}, 120_000);

afterAll(async () => {
  client[Symbol.dispose]();
  await gateway[Symbol.asyncDispose]();
});

test('a definition carries all rules for conflicts, and they change', async () => {
  const conflicts = { strategy: 'crdt', crdt: { n: 'g-counter' }, models: ['a'], cosineTolerance: 0.5 };
  const put = () =>
    client.call('Collections', 'Put', { name: 'ruled', definition: { dimension: 3, conflicts } });
  expect(await put()).toMatchObject({ created: true, collection: { definition: { conflicts } } });
  expect(await put()).toMatchObject({ created: false });
  const wanted = { crdt: { tags: 'or-set' }, models: ['a', 'b'] };
  const after = { ...conflicts, crdt: { n: 'g-counter', tags: 'or-set' }, models: ['a', 'b'] };
  expect(await client.call('Collections', 'Change', { name: 'ruled', conflicts: wanted })).toMatchObject({
    name: 'ruled',
    definition: { conflicts: after },
  });
  expect(await client.call('Collections', 'Get', { name: 'ruled' })).toMatchObject({
    definition: { conflicts: after },
  });
  expect((await gateway.send('GET', '/v1/collections/ruled')).body).toMatchObject({
    definition: { conflicts: after },
  });
  await expect(
    client.call('Collections', 'Change', { name: 'ruled', conflicts: { models: ['b'] } }),
  ).rejects.toMatchObject({ message: expect.stringContaining('models') });
});

test('conflicts are listed, counted, shown as siblings and resolved', async () => {
  await client.call('Vectors', 'Upsert', {
    collection: 'docs',
    vectors: [{ id: 'k', embedding: { values: [1, 2, 3] }, metadataJson: '{"won":1}' }],
  });
  const row = { id: 'k', embedding: '[4,5,6]', metadata: '{"lost": 1}' };
  const first = await addRecord(gateway, { key: 'k', row, counter: 100_000 });
  const second = await addRecord(gateway, {
    key: 'k',
    row: null,
    counter: 100_001,
    origin: 3,
    kind: 'update-delete',
  });
  const listed = await client.call('Replication', 'ListConflicts', { kind: 'update-delete', origin: 'n3' });
  expect(listed).toMatchObject({
    items: [{ id: second, winner: '1.7', winnerOrigin: 'n1', winnerHlc: '6', stateOrigin: 'n1' }],
    nextCursor: '',
  });
  expect(await client.call('Replication', 'CountConflicts', { collection: 'docs', state: 'open' })).toEqual({
    items: [
      { collection: 'docs', state: 'open', kind: 'update-delete', count: '1' },
      { collection: 'docs', state: 'open', kind: 'update-update', count: '1' },
    ],
    total: '2',
  });
  const read = () => client.call('Vectors', 'Get', { collection: 'docs', ids: ['k'], include: ['siblings'] });
  expect(await read()).toMatchObject({
    results: [
      {
        metadataJson: '{"won":1}',
        siblings: [
          {
            conflictId: first,
            metadataJson: '{"lost":1}',
            embedding: { f32le: Buffer.from(new Float32Array([4, 5, 6]).buffer) },
            version: { text: '2.100000' },
            deleted: false,
          },
          { conflictId: second, embedding: null, version: { text: '3.100001' }, deleted: true },
        ],
      },
    ],
  });
  await expect(
    client.call('Replication', 'ResolveConflict', { id: first, ifMatch: '1.999999' }),
  ).rejects.toMatchObject({ message: expect.stringContaining('the version is') });
  const resolved = await client.call('Replication', 'ResolveConflict', {
    id: first,
    embedding: { values: [7, 8, 9] },
    metadataJson: '{"both":1}',
  });
  expect(resolved).toMatchObject({
    id: first,
    key: 'k',
    deleted: false,
    version: { clock: expect.anything() },
  });
  expect((resolved['resolved'] as string[]).toSorted()).toEqual([first, second].toSorted());
  expect(await read()).toMatchObject({ results: [{ metadataJson: '{"both":1}', siblings: [] }] });
});
