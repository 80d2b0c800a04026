/** Lag, statuses and their events as a replicator makes them: when all is well and idle, when an edge is stuck, and when a collection waits. */
import type { INestApplicationContext } from '@nestjs/common';
import { afterAll, beforeAll, expect, jest, test } from '@jest/globals';
import pg from 'pg';
import { listeningLogger, type LogLine } from '#core/testing/cluster.pg.ts';
import { eventually } from '#core/testing/wait.process.ts';
import { startReplicator } from '../../apps/replicator/src/app.module.ts';
import { freshGateway, settingsFor, type TestGateway } from './gateway-fixture.ts';
import { GrpcClient } from './grpc-client.ts';

const env = {
  PGQUORUM_HEARTBEAT_INTERVAL_MS: '100',
  PGQUORUM_LAG_READY_MAX_MS: '6000',
  PGQUORUM_LAG_EXCEEDED_MS: '5000',
  PGQUORUM_METRICS_PORT: '0',
};
jest.setTimeout(120_000);
let gateway: TestGateway;
let replicator: INestApplicationContext;
let client: GrpcClient;
let lines: LogLine[];
const told: { type: string; body: Record<string, unknown> }[] = [];

beforeAll(async () => {
  gateway = await freshGateway({ count: 2, env });
  await gateway.send('PUT', '/v1/collections/docs', { body: { dimension: 1 } });
  client = new GrpcClient(gateway.gateway.grpcPort);
  const stream = client.stream('Replication', 'Events', {
    types: ['replica-status', 'lag-exceeded', 'synced'],
  });
  stream.on('data', ({ type, bodyJson }: { type: string; bodyJson: string }) =>
    told.push({ type, body: JSON.parse(bodyJson) as Record<string, unknown> }),
  );
  stream.on('error', () => undefined); // cancelled at the end
  const listening = listeningLogger();
  lines = listening.lines;
  replicator = await startReplicator(
    settingsFor(gateway.nodes, await clusterOf(gateway), env),
    listening.logger,
  );
}, 120_000);

afterAll(async () => {
  client[Symbol.dispose]();
  await replicator.close();
  await gateway[Symbol.asyncDispose]();
}, 120_000);

const clusterOf = async (of: TestGateway): Promise<string> =>
  (await of.sql<{ cluster: string }>(0, 'select cluster from pgquorum.node'))[0]!.cluster;

interface Edge {
  readonly from: string;
  readonly to: string;
  readonly ms: number | null;
  readonly changes: number | null;
  readonly parked: number;
  readonly state: string;
}
interface Replica {
  readonly id: string;
  readonly status: string;
  readonly lagMs: number | null;
  readonly lastSync: string | null;
}
const get = async <T>(path: string): Promise<T> => (await gateway.send('GET', path)).body as T;
const edge = async (to: string): Promise<Edge> =>
  (await get<{ edges: Edge[] }>('/v1/replication/lag')).edges.find((one) => one.to === to)!;
const replicas = async (): Promise<Replica[]> =>
  (await get<{ items: Replica[] }>('/v1/replication/replicas')).items;
const statuses = async (): Promise<string[]> => (await replicas()).map(({ status }) => status);
const activeAgain = () =>
  eventually('both are active', async () => (await statuses()).every((status) => status === 'active'));
const toldOf = (type: string, fields: Record<string, unknown>) =>
  eventually(`${type} ${JSON.stringify(fields)} is told`, () =>
    told.find(
      (one) =>
        one.type === type && Object.entries(fields).every(([field, value]) => one.body[field] === value),
    ),
  );
async function ready(): Promise<{ gateway: number; replicator: number; stuck: string[] }> {
  const port = lines.find((line) => line.msg === 'metrics are served')!['port'] as number;
  const answer = await fetch(`http://127.0.0.1:${port}/readyz`);
  const { stuck } = (await answer.json()) as { stuck: string[] };
  return { gateway: (await gateway.send('GET', '/readyz')).status, replicator: answer.status, stuck };
}

test('an idle cluster is active, and its lag is that of the last heartbeat', async () => {
  await activeAgain();
  for (const replica of ['n1', 'n2']) await toldOf('replica-status', { replica, status: 'active' });
  for (const [from, to] of [
    ['n1', 'n2'],
    ['n2', 'n1'],
  ])
    await toldOf('synced', { from, to });
  const before = await replicas();
  expect(before.map(({ lagMs }) => lagMs)).toEqual([expect.any(Number), expect.any(Number)]);
  await eventually('both have synced again, with nothing written', async () =>
    (await replicas()).every(
      ({ lastSync }, at) => Date.parse(lastSync!) > Date.parse(before[at]!.lastSync!) + 300,
    ),
  );
  await eventually('nothing is behind', async () => (await edge('n2')).changes === 0);
  expect(await get('/metrics')).toMatch(/^pgquorum_replication_lag_changes\{from="n1",to="n2",.*\} 0$/m);
  await eventually('both are ready', async () => {
    const { gateway: one, replicator: two } = await ready();
    return one === 200 && two === 200;
  });
});

test('a stuck edge lags by ever more time and changes, is told of, and is not ready; when it moves again it has synced', async () => {
  await activeAgain();
  told.length = 0;
  const user = new pg.Client(gateway.nodes[1]!.url);
  await user.connect();
  try {
    // Whatever is applied can not be committed: progress can not be written.
    await user.query('begin; lock table pgquorum.progress in exclusive mode');
    await gateway.sql(0, `insert into docs (id) select 'stuck' || i from generate_series(1, 7) i`);
    const exceeded = await toldOf('lag-exceeded', { from: 'n1', to: 'n2', happened: 'exceeded' });
    expect(exceeded.body).toMatchObject({ limitMs: 5000, ms: expect.any(Number), bytes: expect.any(Number) });
    expect(exceeded.body['ms']).toBeGreaterThan(5000);
    await eventually('it is stuck', async () => (await statuses())[1] === 'lagging');
    await toldOf('replica-status', { replica: 'n2', status: 'lagging', was: 'active' });
    const first = await edge('n2');
    expect(first.changes).toBeGreaterThanOrEqual(7);
    await eventually('it lags by more', async () => (await edge('n2')).ms! > first.ms! + 500);
    expect(await ready()).toEqual({
      gateway: 503,
      replicator: 503,
      stuck: [expect.stringContaining('n1 to n2')],
    });
    expect(await get('/v1/cluster/health')).toMatchObject({
      status: 'degraded',
      problems: [expect.stringContaining('n1 to n2: lags')],
    });
    expect((await statuses())[0]).toBe('active');
  } finally {
    await user.end();
  }
  await activeAgain();
  await toldOf('lag-exceeded', { from: 'n1', to: 'n2', happened: 'over' });
  await toldOf('replica-status', { replica: 'n2', status: 'active', was: 'lagging' });
  await toldOf('synced', { from: 'n1', to: 'n2', was: 'lagging' });
  await eventually('nothing is behind', async () => (await edge('n2')).changes === 0);
  expect(await gateway.sql(1, `select from docs where id like 'stuck%'`)).toHaveLength(7);
  // Never the same twice in a row, though it was looked at ten times a second.
  const lags = told
    .filter(({ type, body }) => type === 'lag-exceeded' && body['to'] === 'n2')
    .map(({ body }) => body['happened']);
  expect(lags.filter((one, at) => one === lags[at - 1])).toEqual([]);
});

test('a collection that waits pauses the replica and is counted, and the cluster stays ready', async () => {
  await activeAgain();
  told.length = 0;
  await gateway.sql(0, 'alter table docs add lang text');
  await gateway.sql(0, `insert into docs (id, lang) values ('a', 'en'), ('b', 'de')`);
  await toldOf('replica-status', { replica: 'n2', status: 'paused', was: 'active' });
  await eventually('two changes are missing', async () => (await edge('n2')).changes === 2);
  expect(await edge('n2')).toMatchObject({ state: 'paused', parked: 2 });
  expect(await ready()).toEqual({ gateway: 200, replicator: 200, stuck: [] });
  await gateway.sql(1, 'alter table docs add lang text');
  await toldOf('replica-status', { replica: 'n2', status: 'active', was: 'paused' });
  expect(await edge('n2')).toMatchObject({ parked: 0 });
});

test('a node that joins, leaves or has missed changes says so', async () => {
  await activeAgain();
  told.length = 0;
  for (const status of ['joining', 'leaving']) {
    await gateway.sql(1, `update pgquorum.shard_role set role = $1 where shard = 0`, [status]);
    await toldOf('replica-status', { replica: 'n2', status });
  }
  await gateway.sql(1, `update pgquorum.shard_role set role = 'replica'`);
  await activeAgain();
  await gateway.sql(1, `update pgquorum.source set problem = 'position_lost: the slot is gone'`);
  await toldOf('replica-status', { replica: 'n2', status: 'resync' });
  await gateway.sql(1, 'update pgquorum.source set problem = null');
  await activeAgain();
});

test('what was told is not told again by a replicator that starts', async () => {
  await activeAgain();
  await eventually('all of it is told', async () => {
    const rows = await gateway.sql<{ state: string }>(
      0,
      `select state from pgquorum.watched where kind <> 'lag'`,
    );
    return rows.length === 4 && rows.every(({ state }) => state === 'active');
  });
  const events = async (): Promise<number> =>
    (await gateway.sql(0, `select from pgquorum.event where type in ('replica-status', 'synced')`)).length;
  const before = await events();
  await replicator.close();
  const listening = listeningLogger();
  lines = listening.lines;
  const settings = settingsFor(gateway.nodes, await clusterOf(gateway), env);
  replicator = await startReplicator(settings, listening.logger);
  const beats = async (): Promise<string> =>
    (await gateway.sql<{ at: string }>(0, 'select max(at)::text as at from pgquorum.pulse'))[0]!.at;
  const started = await beats();
  await eventually('it runs', async () => (await beats()) > started && (await ready()).replicator === 200);
  expect(await events()).toBe(before);
});
