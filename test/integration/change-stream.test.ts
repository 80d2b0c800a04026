/** Changes for others, from the WAL: every committed one, in order for each key, resumable at any gateway, with slots and WAL bounded. */
import { afterAll, beforeAll, expect, jest, test } from '@jest/globals';
import pg from 'pg';
import { tendAnchor } from '#core/changes/anchor.pg.ts';
import { freshNodes, type FreshNodes } from '#core/testing/fresh-nodes.pg.ts';
import { eventually } from '#core/testing/wait.process.ts';
import { ChangeListener, listen } from './change-listener.ts';
import { startGateway, type TestGateway } from './gateway-fixture.ts';
import { GrpcClient } from './grpc-client.ts';

jest.setTimeout(120_000);

const key = 'the-key';
const headers = { 'x-api-key': key };
let fresh: FreshNodes;
let gateway: TestGateway;

const start = () =>
  startGateway({ nodes: fresh.nodes, cluster: fresh.cluster, env: { PGQUORUM_API_KEYS: key } });
const base = (one = gateway): string => `http://127.0.0.1:${one.gateway.httpPort}`;

beforeAll(async () => {
  fresh = await freshNodes({ count: 3 });
  gateway = await start();
  await gateway.send('PUT', '/v1/collections/docs', { body: { dimension: 3 }, headers });
  await gateway.send('PUT', '/v1/collections/others', { body: { dimension: 3 }, headers });
}, 120_000);

afterAll(async () => {
  await gateway[Symbol.asyncDispose]();
  await fresh[Symbol.asyncDispose]();
});

const insert = (node: number, ids: readonly string[], collection = 'docs') =>
  gateway.sql(
    node,
    `insert into ${collection} (id, embedding, metadata) select i, '[1,0.5,-2]', '{"n": 12345678901234567890}' from unnest($1::text[]) i
     on conflict (id) do update set embedding = excluded.embedding`,
    [ids],
  );

const followSlots = async (node: number): Promise<number> =>
  (
    await gateway.sql(
      node,
      `select from pg_replication_slots where temporary and database = current_database() and slot_name like 'pgquorum_%_f_%'`,
    )
  ).length;

/** Moves the end of a node's WAL on by so much. */
const fillWal = (node: number, bytes: number) =>
  gateway.sql(
    node,
    `select pg_logical_emit_message(false, 'filler', repeat('x', 65536)) from generate_series(1, $1)`,
    [Math.ceil(bytes / 65_536)],
  );

async function tend(node: number, options: { keptBytes: number; unusedMs: number }): Promise<string> {
  const client = new pg.Client(fresh.nodes[node]!.url);
  await client.connect();
  try {
    return await tendAnchor(client, options);
  } finally {
    await client.end();
  }
}

test('changes of all nodes by SQL and by HTTP are told, each with its row and version, and only those of the collection', async () => {
  await using listener = await listen(base(), { key });
  await insert(0, ['a1', 'a2']);
  await insert(1, ['x'], 'others');
  await insert(2, ['c1']);
  await gateway.sql(0, `delete from docs where id = 'a2'`);
  await gateway.send('POST', '/v1/collections/docs/vectors', {
    body: { vectors: [{ id: 'h', embedding: [1, 2, 3], metadata: { t: 'é' } }] },
    headers,
  });
  await listener.until(5);
  const of = (name: string) => listener.changes.filter((change) => change.key === name);
  expect(of('x')).toEqual([]);
  expect(of('a1')).toEqual([
    {
      id: expect.stringMatching(/^1\.\d+\.[0-9a-f]{8}$/),
      op: 'upsert',
      collection: 'docs',
      key: 'a1',
      shard: expect.any(Number),
      origin: 'n1',
      committedAt: expect.stringMatching(/^\d{4}-.*Z$/),
      lsn: expect.stringMatching(/^[0-9A-F]+\/[0-9A-F]+$/),
      version: {
        text: expect.stringMatching(/^1\.\d+$/),
        origin: 'n1',
        originNumber: 1,
        counter: expect.any(String),
        hlc: expect.any(String),
        clock: { 1: expect.any(String) },
        rank: 0,
        epoch: '0',
      },
      row: { id: 'a1', embedding: [1, 0.5, -2], metadata: { n: expect.any(Number) } },
    },
  ]);
  expect(of('a2').map(({ op, row }) => [op, row === null])).toEqual([
    ['upsert', false],
    ['delete', true],
  ]);
  expect(of('c1')).toMatchObject([{ origin: 'n3', version: { origin: 'n3' } }]);
  expect(of('h')).toMatchObject([{ row: { id: 'h', embedding: [1, 2, 3], metadata: { t: 'é' } } }]);
});

test('who comes back at another gateway with the last position misses nothing, and nothing of a key comes out of order', async () => {
  const first = await listen(base(), { key });
  await insert(0, ['r1', 'r2']);
  await first.until(2);
  await first.close();
  const { last } = first;
  await gateway[Symbol.asyncDispose]();
  gateway = await start();
  for (let round = 0; round < 5; round += 1)
    for (const node of [0, 1, 2]) await insert(node, [`k${node}`, 'all']);
  await using second = await listen(base(), { from: last, key });
  await second.until(30);
  expect(second.keys.filter((name) => name.startsWith('r'))).toEqual([]);
  const counters = new Map<string, number>();
  for (const { key: name, origin, version } of second.changes) {
    const stream = `${origin} ${name}`;
    expect(Number(version.counter)).toBeGreaterThan(counters.get(stream) ?? 0);
    counters.set(stream, Number(version.counter));
  }
  expect([...counters.keys()].toSorted()).toEqual(['n1 all', 'n1 k0', 'n2 all', 'n2 k1', 'n3 all', 'n3 k2']);
  // Again from before: the same events by the same ids.
  await using again = await listen(base(), { query: `?from=${last}`, key });
  await again.until(30);
  expect(new Set(again.changes.map(({ id }) => id))).toEqual(new Set(second.changes.map(({ id }) => id)));
});

test('all streams of a gateway share one slot at each node, who catches up has one for a while, and none is left', async () => {
  const listeners = await Promise.all(Array.from({ length: 5 }, () => listen(base(), { key })));
  const early = listeners[0]!.last;
  await insert(0, ['s1']);
  await Promise.all(listeners.map((listener) => listener.until(1)));
  expect(await followSlots(0)).toBe(1);
  // Far behind: more WAL than counts as near.
  await fillWal(0, 12 * 1024 * 1024);
  await using late = await listen(base(), { from: early, key });
  await late.until(1);
  await eventually('who has caught up shares', async () => (await followSlots(0)) === 1);
  await insert(0, ['s2']);
  await late.until(2);
  expect(late.keys).toEqual(['s1', 's2']);
  await Promise.all(listeners.map((listener) => listener.until(2)));
  await Promise.all([...listeners, late].map((listener) => listener.close()));
  await eventually('no slot is left', async () => (await followSlots(0)) + (await followSlots(2)) === 0);
});

test('a position that is no longer held is 410 position_expired, and one that is none 400', async () => {
  await using before = await listen(base(), { key });
  await insert(0, ['e1']);
  await before.until(1);
  await before.close();
  await fillWal(0, 3 * 1024 * 1024);
  expect(await tend(0, { keptBytes: 1024 * 1024, unusedMs: 60_000 })).toBe('moved');
  expect(await ChangeListener.open(base(), { from: before.last, key })).toMatchObject({
    status: 410,
    code: 'position_expired',
  });
  expect(await ChangeListener.open(base(), { from: 'nonsense', key })).toMatchObject({
    status: 400,
    code: 'invalid_request',
  });
  expect(await ChangeListener.open(base(), { from: '1~n9~00~5', key })).toMatchObject({
    status: 410,
    code: 'position_expired',
  });
  const { status } = await gateway.send('GET', '/v1/changes/nowhere', { headers });
  expect(status).toBe(404);
  expect(await ChangeListener.open(base())).toMatchObject({ status: 401, code: 'unauthenticated' });
});

test('a slot that nobody used for long is dropped, and what belonged to it has expired', async () => {
  const before = await listen(base(), { key });
  await insert(1, ['d1']);
  await before.until(1);
  await before.close();
  await eventually('its slots are gone', async () => (await followSlots(1)) === 0);
  await gateway.sql(1, `update pgquorum.change_anchor set used_at = clock_timestamp() - interval '2 hours'`);
  expect(await tend(1, { keptBytes: 1024 ** 3, unusedMs: 3_600_000 })).toBe('dropped');
  expect(await tend(1, { keptBytes: 1024 ** 3, unusedMs: 3_600_000 })).toBe('none');
  expect(
    await gateway.sql(
      1,
      `select from pg_replication_slots where slot_name like '%\\_changes' and database = current_database()`,
    ),
  ).toEqual([]);
  expect(await ChangeListener.open(base(), { from: before.last, key })).toMatchObject({
    code: 'position_expired',
  });
});

test('a slot whose publication was made anew may have skipped changes: its positions have expired, and another one is made', async () => {
  const before = await listen(base(), { key });
  await insert(1, ['p1']);
  await before.until(1);
  await before.close();
  await gateway.sql(1, 'update pgquorum.change_anchor set publication = 1');
  expect(await ChangeListener.open(base(), { from: before.last, key })).toMatchObject({
    code: 'position_expired',
  });
  await using after = await listen(base(), { key });
  await insert(1, ['p2']);
  await after.until(1);
  expect(after.keys).toEqual(['p2']);
});

test('earliest begins with all that is held', async () => {
  await using first = await listen(base(), { key });
  await insert(2, ['f1', 'f2']);
  await first.until(2);
  await using second = await listen(base(), { query: '?from=earliest', key });
  await eventually('what came before is told', () => second.keys.includes('f2'));
});

test('gRPC streams the messages of the change log with positions', async () => {
  using client = new GrpcClient(gateway.gateway.grpcPort, key);
  const stream = client.stream('Replication', 'Changes', { collection: 'docs' });
  const messages: Record<string, unknown>[] = [];
  stream.on('data', (message: Record<string, unknown>) => void messages.push(message));
  stream.on('error', () => undefined); // it is cancelled below
  await eventually('it tells where it begins', () => messages.length > 0);
  await insert(0, ['g1', 'g2']);
  await eventually('both changes are told', () => messages.length >= 3);
  expect(messages[1]).toMatchObject({
    position: '',
    change: { operation: 1, origin: 'n1', collection: 'docs', key: ['g1'], version: { origin: 1 } },
  });
  const { position } = messages[2]!;
  expect(position).toMatch(/^1~n1~/);
  const { row } = messages[2]!['change'] as {
    row: { columns: { name: string; value: { vector: unknown } }[] };
  };
  const embedding = row.columns.find(({ name }) => name === 'embedding')!.value.vector;
  expect(embedding).toMatchObject({ dimension: 3 });
  stream.cancel();
  await using resumed = await listen(base(), { from: String(position), key });
  await insert(0, ['g3']);
  await resumed.until(1);
  expect(resumed.keys).toEqual(['g3']);
});
