/** What is told about nodes and edges, from what stands in the databases. Sources and progress are set as replicators would set them. */
import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, beforeAll, beforeEach, expect, test } from '@jest/globals';
import { freshGateway, type TestGateway } from './gateway-fixture.ts';

let gateway: TestGateway;

beforeAll(async () => {
  gateway = await freshGateway({
    count: 2,
    env: { PGQUORUM_LAG_READY_MAX_MS: '5000', PGQUORUM_FAILURE_TIMEOUT_MS: '10000' },
  });
  await gateway.send('PUT', '/v1/collections/docs', { body: { dimension: 1, shards: 16 } });
}, 120_000);

afterAll(async () => {
  await gateway[Symbol.asyncDispose]();
});

const all = async (text: string) => {
  for (const node of [0, 1]) await gateway.sql(node, text);
};

beforeEach(async () => {
  await all('update pgquorum.heartbeat set at = clock_timestamp()');
  await all(`update pgquorum.source set problem = null, state = 'ready'`);
  await all('update pgquorum.progress set commit_time = clock_timestamp()');
  await all('delete from pgquorum.pause');
  await delay(260); // a state is kept for 250 ms
});

const body = async <T>(path: string) => (await gateway.send('GET', path)).body as T;
interface Lag {
  maxMs: number | null;
  edges: {
    from: string;
    to: string;
    ms: number | null;
    bytes: number | null;
    state: string;
    problem: string | null;
  }[];
}

test('all is well', async () => {
  expect(await gateway.send('GET', '/readyz')).toMatchObject({
    status: 200,
    body: { status: 'ready', problems: [] },
  });
  const lag = await body<Lag>('/v1/replication/lag');
  expect(lag.edges).toMatchObject([
    { from: 'n2', to: 'n1', state: 'active', problem: null, bytes: expect.any(Number) },
    { from: 'n1', to: 'n2', state: 'active', problem: null, bytes: expect.any(Number) },
  ]);
  expect(lag.maxMs).toBe(Math.max(...lag.edges.map((edge) => edge.ms!)));
  expect(lag.maxMs).toBeLessThan(3000);
  const { items } = await body<{ items: { lastHeartbeat: string; primaryOf: number }[] }>(
    '/v1/cluster/nodes',
  );
  expect(items).toMatchObject([
    { id: 'n1', number: 1, zone: 'z1', status: 'alive', shards: 16 },
    { id: 'n2', number: 2, status: 'alive' },
  ]);
  expect(items.reduce((sum, node) => sum + node.primaryOf, 0)).toBe(16);
  expect(Date.now() - Date.parse(items[0]!.lastHeartbeat)).toBeLessThan(5000);
  expect(await body('/v1/cluster/health')).toEqual({
    status: 'healthy',
    healthyNodes: 2,
    totalNodes: 2,
    problems: [],
  });
  expect(await body('/v1/replication/replicas')).toMatchObject({
    items: [
      { id: 'n1', status: 'active', lagMs: expect.any(Number), lastSync: expect.stringMatching(/Z$/) },
      { id: 'n2' },
    ],
  });
});

test('bytes are those that the origin has written and the edge has not confirmed', async () => {
  const before = (await body<Lag>('/v1/replication/lag')).edges[0]!.bytes!;
  await gateway.sql(
    1,
    `insert into docs (id, metadata) select i::text, jsonb_build_object('text', repeat('x', 100)) from generate_series(1, 1000) i`,
  );
  await delay(260);
  expect((await body<Lag>('/v1/replication/lag')).edges[0]!.bytes! - before).toBeGreaterThan(100_000);
});

test('the slowest lane is what counts, and a lane that has applied nothing', async () => {
  await gateway.sql(
    0,
    `insert into pgquorum.progress (origin, log, stream, lane, position, commit_time) values (2, 'wal', 0, 1, 0, clock_timestamp() - interval '20 s')`,
  );
  try {
    const late = await body<Lag>('/v1/replication/lag');
    expect(late.edges[0]).toMatchObject({ state: 'lagging' });
    expect(late.edges[0]!.ms).toBeGreaterThan(19_000);
    expect(await gateway.send('GET', '/readyz')).toMatchObject({
      status: 503,
      body: { code: 'not_ready', detail: expect.stringContaining('n2 to n1') },
    });
    await gateway.sql(0, 'update pgquorum.progress set commit_time = null where lane = 1');
    await delay(260);
    expect((await body<Lag>('/v1/replication/lag')).edges[0]).toMatchObject({ ms: null, state: 'syncing' });
  } finally {
    await gateway.sql(0, 'delete from pgquorum.progress where lane = 1');
  }
});

test.each([
  [`update pgquorum.source set problem = 'slot_in_use: somebody else reads it'`, 'down', /somebody else/],
  [`update pgquorum.source set problem = 'position_lost: the slot is gone'`, 'resync', /position_lost/],
  [
    `with lost as (insert into pgquorum.resync (origin, log, reason, phase) values (2, 'wal', 'the slot is gone', 'copying'))
     update pgquorum.source set state = 'resync'`,
    'resync',
    /^resync: the slot is gone$/,
  ],
  [`update pgquorum.source set state = 'creating'`, 'joining', /being prepared/],
  [
    `insert into pgquorum.pause (collection, origin, code, reason) values ('docs', 2, 'schema_drift', 'column x differs')`,
    'paused',
    /docs is paused: schema_drift/,
  ],
])(
  '%s shows; the gateway is not ready unless only a collection is paused',
  async (statement, state, problem) => {
    await gateway.sql(0, statement);
    await delay(260);
    const { edges } = await body<Lag>('/v1/replication/lag');
    expect(edges[0]).toMatchObject({ from: 'n2', to: 'n1', state });
    expect(edges[0]!.problem).toMatch(problem);
    expect(edges[1]).toMatchObject({ state: 'active' });
    expect((await gateway.send('GET', '/readyz')).status).toBe(state === 'paused' ? 200 : 503);
    expect(await body('/v1/cluster/health')).toMatchObject({ status: 'degraded' });
  },
);

test('being ready shows at once', async () => {
  await gateway.sql(0, `update pgquorum.source set problem = 'starting'`);
  await delay(260);
  expect((await gateway.send('GET', '/readyz')).status).toBe(503);
  await gateway.sql(0, 'update pgquorum.source set problem = null');
  expect((await gateway.send('GET', '/readyz')).status).toBe(200);
});

test('a node without heartbeats is suspect', async () => {
  await gateway.sql(1, `update pgquorum.heartbeat set at = clock_timestamp() - interval '30 s'`);
  await delay(260);
  expect(await body('/v1/cluster/nodes')).toMatchObject({
    items: [{ status: 'alive' }, { status: 'suspect' }],
  });
  expect(await body('/v1/cluster/health')).toMatchObject({
    status: 'degraded',
    healthyNodes: 1,
    problems: [expect.stringContaining('n2')],
  });
});

test('metrics count requests, writes and lag', async () => {
  await gateway.send('POST', '/v1/collections/docs/vectors', {
    body: {
      vectors: [
        { id: 'm', embedding: [1] },
        { id: 'n', embedding: [1, 2] },
      ],
    },
  });
  const text = await body<string>('/metrics');
  for (const line of [
    /pgquorum_writes_total\{collection="docs",outcome="ok",.*\} 1$/m,
    /pgquorum_writes_total\{collection="docs",outcome="dimension_mismatch",.*\} 1$/m,
    /pgquorum_http_request_seconds_count\{.*route="\/v1\/collections\/:collection\/vectors",method="POST",status="200"\} 1$/m,
    /pgquorum_replication_lag_seconds\{from="n2",to="n1",.*\} \d/m,
    /pgquorum_replication_lag_bytes\{from="n1",to="n2",.*\} \d/m,
    /pgquorum_parked_changes\{from="n1",to="n2",.*\} 0$/m,
    /pgquorum_replica_status\{replica="n2",status="active",.*\} 1$/m,
    /pgquorum_node_up\{node="n1",zone="z1",.*\} 1$/m,
    /pgquorum_pool_connections\{node="n1",state="idle",.*\} \d/m,
    /nodejs_eventloop_lag_seconds/,
  ])
    expect(text).toMatch(line);
});
