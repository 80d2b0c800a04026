/** What callers with some capabilities may do, alike over HTTP and gRPC, what they see, and what the audit log says of it. */
import { createHash } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { freshGateway, type TestGateway } from './gateway-fixture.ts';
import { addRecord } from './conflict-records.ts';
import { GrpcClient } from './grpc-client.ts';

const hashed = (name: string, grants = ''): string =>
  `${name}=sha256:${createHash('sha256').update(`${name}-key`).digest('hex')}${grants && `:${grants}`}`;

const keys = [
  hashed('root'),
  hashed('reader', 'vectors:read@docs'),
  hashed('writer', 'vectors:read+vectors:write@docs'),
  hashed('owner', '*@docs+own_*'),
  hashed('watcher', 'cluster:read'),
  hashed('seer', 'cluster:read+topology:read'),
];

let gateway: TestGateway;
const clients = new Map<string, GrpcClient>();

beforeAll(async () => {
  gateway = await freshGateway({
    count: 1,
    env: { PGQUORUM_API_KEYS: keys.join(','), PGQUORUM_LOG_LEVEL: 'error' },
  });
  for (const name of ['docs', 'notes'])
    await gateway.send('PUT', `/v1/collections/${name}`, { body: { dimension: 1 }, headers: as('root') });
}, 120_000);

afterAll(async () => {
  for (const client of clients.values()) client[Symbol.dispose]();
  await gateway[Symbol.asyncDispose]();
});

const as = (who: string): Record<string, string> => ({ authorization: `Bearer ${who}-key` });

async function http(who: string, method: string, path: string, body?: unknown) {
  const answer = await gateway.send(method, path, { body, headers: as(who) });
  return { ...answer, code: (answer.body as { code?: string }).code ?? 'ok' };
}

/** The code of the error, or ok. */
async function grpc(who: string, path: string, request: object): Promise<string> {
  const [service, method] = path.split('/') as [string, string];
  const client = clients.get(who) ?? new GrpcClient(gateway.gateway.grpcPort, `${who}-key`);
  clients.set(who, client);
  return client.call(service, method, request).then(
    () => 'ok',
    (error: { metadata: { get(name: string): unknown[] } }) =>
      /([a-z_]+)..pgquorum/s.exec(String(error.metadata.get('grpc-status-details-bin')[0]))?.[1] ?? 'none',
  );
}

const nowhere = '00000000-0000-4000-8000-000000000000';
const vectors = [{ id: 'a', embedding: [1] }];
const vectorMessages = [{ id: 'a', embedding: { values: [1] } }];

type Case = [
  what: string,
  call: [method: string, path: string, body?: unknown],
  method: [path: string, request: object],
  allowed: string[],
];
const cases: Case[] = [
  [
    'writing',
    ['POST', '/v1/collections/docs/vectors?consistency=one', { vectors }],
    ['Vectors/Upsert', { collection: 'docs', vectors: vectorMessages, options: { consistency: 'one' } }],
    ['root', 'writer', 'owner'],
  ],
  [
    'writing elsewhere',
    ['POST', '/v1/collections/notes/vectors?consistency=one', { vectors }],
    ['Vectors/Upsert', { collection: 'notes', vectors: vectorMessages, options: { consistency: 'one' } }],
    ['root'],
  ],
  [
    'reading',
    ['POST', '/v1/collections/docs/vectors/get', { ids: ['a'] }],
    ['Vectors/Get', { collection: 'docs', ids: ['a'] }],
    ['root', 'reader', 'writer', 'owner'],
  ],
  [
    'searching',
    ['POST', '/v1/collections/docs/search', { embedding: [1] }],
    ['Vectors/Search', { collection: 'docs', embedding: { values: [1] } }],
    ['root', 'reader', 'writer', 'owner'],
  ],
  [
    'seeing a definition',
    ['GET', '/v1/collections/docs'],
    ['Collections/Get', { name: 'docs' }],
    ['root', 'reader', 'writer', 'owner'],
  ],
  [
    'changing a definition',
    ['PATCH', '/v1/collections/docs', { conflicts: {} }],
    ['Collections/Change', { name: 'docs', conflicts: {} }],
    ['root', 'owner'],
  ],
  [
    'making a collection',
    ['PUT', '/v1/collections/own_one', { dimension: 1 }],
    ['Collections/Put', { name: 'own_one', definition: { dimension: 1 } }],
    ['root', 'owner'],
  ],
  ['listing conflicts of all', ['GET', '/v1/conflicts'], ['Replication/ListConflicts', {}], ['root']],
  [
    'listing conflicts of one',
    ['GET', '/v1/conflicts?collection=docs'],
    ['Replication/ListConflicts', { collection: 'docs' }],
    ['root', 'reader', 'writer', 'owner'],
  ],
  ['health', ['GET', '/v1/cluster/health'], ['Cluster/GetHealth', {}], ['root', 'watcher', 'seer']],
  ['nodes', ['GET', '/v1/cluster/nodes'], ['Cluster/ListNodes', {}], ['root', 'seer']],
  ['lag', ['GET', '/v1/replication/lag'], ['Replication/Lag', {}], ['root', 'seer']],
  [
    'shards',
    ['GET', '/v1/cluster/shards/docs'],
    ['Cluster/ListShards', { collection: 'docs' }],
    ['root', 'seer'],
  ],
  ['jobs', ['GET', '/v1/jobs'], ['Cluster/ListJobs', {}], ['root', 'watcher', 'seer']],
  ['dead letters', ['GET', '/v1/dead-letters'], ['Replication/ListDeadLetters', {}], ['root']],
  [
    'the throttle',
    ['PUT', '/v1/replication/throttle', { bytesPerSecond: null }],
    ['Replication/SetThrottle', {}],
    ['root'],
  ],
];

test.each(cases)(
  '%s is for those who have the capability',
  async (_what, [verb, path, body], [method, request], allowed) => {
    for (const who of ['root', 'reader', 'writer', 'owner', 'watcher', 'seer']) {
      const answer = await http(who, verb, path, body);
      const code = await grpc(who, method, request);
      if (allowed.includes(who)) {
        expect([who, answer.code, answer.status < 300]).toEqual([who, 'ok', true]);
        expect([who, code]).not.toEqual([who, 'permission_denied']);
      } else {
        expect([who, answer.status, answer.code, code]).toEqual([
          who,
          403,
          'permission_denied',
          'permission_denied',
        ]);
        expect((answer.body as { detail: string }).detail).toMatch(/^needs [a-z]+:[a-z]+/);
      }
    }
  },
);

describe('a caller', () => {
  test('sees the collections that it has something to do with', async () => {
    const names = async (who: string) =>
      ((await http(who, 'GET', '/v1/collections')).body as { items: { name: string }[] }).items
        .map(({ name }) => name)
        .toSorted();
    expect(await names('reader')).toEqual(['docs']);
    expect(await names('watcher')).toEqual([]);
    expect(await names('root')).toEqual(expect.arrayContaining(['docs', 'notes']));
  });

  test('does not learn of a conflict elsewhere whether it is there', async () => {
    const elsewhere = await addRecord(gateway, {
      collection: 'notes',
      key: 'a',
      row: { id: 'a' },
      counter: 3,
    });
    const here = await addRecord(gateway, { collection: 'docs', key: 'b', row: { id: 'b' }, counter: 4 });
    const get = async (who: string, id: string) => [
      (await http(who, 'GET', `/v1/conflicts/${id}`)).code,
      await grpc(who, 'Replication/GetConflict', { id }),
    ];
    expect(await get('root', elsewhere)).toEqual(['ok', 'ok']);
    for (const who of ['reader', 'owner']) {
      expect(await get(who, here)).toEqual(['ok', 'ok']);
      for (const id of [elsewhere, nowhere, 'none'])
        expect(await get(who, id)).toEqual(['conflict_not_found', 'conflict_not_found']);
      const restored = await http(who, 'POST', `/v1/conflicts/${elsewhere}/restore`);
      expect(restored.code).toBe('conflict_not_found');
    }
    const [foreign, missing] = await Promise.all(
      [elsewhere, nowhere].map(async (id) => (await http('reader', 'GET', `/v1/conflicts/${id}`)).body),
    );
    expect(
      JSON.stringify(foreign)
        .replaceAll(elsewhere, '')
        .replaceAll(/"requestId":"[^"]*"/g, ''),
    ).toBe(
      JSON.stringify(missing)
        .replaceAll(nowhere, '')
        .replaceAll(/"requestId":"[^"]*"/g, ''),
    );
    expect((await http('reader', 'POST', `/v1/conflicts/${here}/restore`)).code).toBe('permission_denied');
  });

  test('without topology:read sees no node, and all else', async () => {
    const shown = async (who: string) => {
      const written = await http(who, 'POST', '/v1/collections/docs/vectors?consistency=one', { vectors });
      const read = await http(who, 'GET', '/v1/collections/docs/vectors/a');
      const found = await http(who, 'POST', '/v1/collections/docs/search', {
        embedding: [1],
        include: ['version', 'metadata'],
      });
      return [written, read, found].map(({ body }) => body) as Record<string, unknown>[];
    };
    expect(JSON.stringify(await shown('root'))).toMatch(/"coordinator":"n\d".*"node":"n\d"/);
    const [written, read, found] = await shown('writer');
    expect(JSON.stringify([written, read, found])).not.toMatch(/"n\d"|coordinator|acks|"node/);
    expect(written).toMatchObject({
      results: [{ id: 'a', version: { text: expect.any(String), hlc: expect.any(String) } }],
    });
    expect(read).toMatchObject({ id: 'a', embedding: [1], version: { counter: expect.any(String) } });
    expect(found).toMatchObject({ matches: [{ id: 'a', distance: expect.any(Number) }] });
    expect(Object.keys(read!.version as object)).not.toContain('origin');
    const client = new GrpcClient(gateway.gateway.grpcPort, 'writer-key');
    clients.set('again', client);
    const message = await client.call('Vectors', 'Get', { collection: 'docs', ids: ['a'] });
    expect(message).toMatchObject({ results: [{ id: 'a', node: '', version: { origin: '' } }] });
  });

  test('that is not known has no health in names', async () => {
    const { nodes } = gateway;
    const answer = await gateway.send('GET', '/readyz');
    for (const { name } of nodes)
      expect(JSON.stringify(answer.body)).not.toMatch(new RegExp(`\\b${name}\\b`));
    const watched = await http('watcher', 'GET', '/v1/cluster/health');
    for (const { name } of nodes)
      expect(JSON.stringify(watched.body)).not.toMatch(new RegExp(`\\b${name}\\b`));
  });
});

test('a key as a digest is not itself a key', async () => {
  const digest = createHash('sha256').update('root-key').digest('hex');
  for (const key of [digest, `sha256:${digest}`, hashed('root')])
    expect((await gateway.send('GET', '/v1/collections', { headers: { 'x-api-key': key } })).status).toBe(
      401,
    );
});

test('administrative calls are in the audit log, without bodies, whatever the level', async () => {
  const before = gateway.log.length;
  await http('owner', 'PUT', '/v1/collections/own_two', { dimension: 1 });
  await http('owner', 'DELETE', '/v1/collections/own_two');
  await http('reader', 'DELETE', '/v1/collections/docs');
  await http('owner', 'POST', '/v1/collections/own_two/ddl', { statement: 'drop table planted' });
  await grpc('root', 'Replication/SyncReplica', { node: 'nobody' });
  await http('root', 'POST', '/v1/replication/replicas', { name: 'n9', url: 'mysql://u:planted@h/d' });
  await gateway.send('DELETE', '/v1/collections/docs');
  await http('reader', 'GET', '/v1/collections/docs');
  const lines = gateway.log
    .slice(before)
    .map((line) => JSON.parse(line) as Record<string, unknown>)
    .filter(({ audit }) => audit === true);
  expect(lines).toMatchObject([
    {
      principal: 'key:owner',
      action: 'collections.put',
      target: { name: 'own_two' },
      outcome: 'ok',
      transport: 'http',
    },
    { principal: 'key:owner', action: 'collections.drop', target: { name: 'own_two' }, outcome: 'ok' },
    {
      principal: 'key:reader',
      action: 'collections.drop',
      target: { name: 'docs' },
      outcome: 'permission_denied',
    },
    { principal: 'key:owner', action: 'collections.ddl', outcome: 'ddl_refused' },
    {
      principal: 'key:root',
      action: 'replicas.sync',
      target: { node: 'nobody' },
      outcome: 'node_not_found',
      transport: 'grpc',
    },
    { principal: 'key:root', action: 'replicas.add', target: { name: 'n9' }, outcome: 'invalid_request' },
  ]);
  for (const { requestId } of lines) expect(requestId).toEqual(expect.any(String));
  expect(JSON.stringify(lines)).not.toMatch(/planted/);
});
