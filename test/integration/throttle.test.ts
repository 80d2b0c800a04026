/** The limit on what edges read: set by the settings and by calls, kept on the nodes, and held by replicators, through either change log. */
import { randomUUID } from 'node:crypto';
import { describe, expect, test } from '@jest/globals';
import { sharedKafka } from '#core/testing/broker.kafka.ts';
import { changeLogs } from '#core/testing/change-logs.os.ts';
import { listeningLogger } from '#core/testing/cluster.pg.ts';
import { freshNodes, type FreshNodes } from '#core/testing/fresh-nodes.pg.ts';
import { eventually } from '#core/testing/wait.process.ts';
import { startReplicator } from '../../apps/replicator/src/app.module.ts';
import { freshGateway, settingsFor, startGateway, type TestGateway } from './gateway-fixture.ts';
import { GrpcClient } from './grpc-client.ts';

const logs = await changeLogs();
const path = '/v1/replication/throttle';
const rowBytes = 8000;
const limit = 400_000;

const put = (gateway: TestGateway, body: unknown, headers: Record<string, string> = {}) =>
  gateway.send('PUT', path, { body, headers });
const arrived = async (gateway: TestGateway): Promise<number> =>
  (await gateway.sql<{ n: number }>(1, 'select count(*)::int as n from docs'))[0]!.n;
const write = (gateway: TestGateway, prefix: string, rows: number) =>
  gateway.sql(
    0,
    `insert into docs (id, metadata) select '${prefix}' || i, jsonb_build_object('text', repeat(md5(i::text), ${rowBytes / 32})) from generate_series(1, ${rows}) i`,
  );
const happened = async (gateway: TestGateway): Promise<string[]> =>
  (
    await gateway.sql<{ happened: string }>(
      1,
      `select body ->> 'happened' as happened from pgquorum.event where type = 'throttled' order by xid, arrival`,
    )
  ).map((row) => row.happened);

describe.each(logs)('through %s', (log) => {
  test('an edge reads no faster than its limit, which reaches a running replicator, is told, survives restarts and can be lifted', async () => {
    await using fresh: FreshNodes = await freshNodes({ count: 2 });
    const brokers = log === 'kafka' ? (await sharedKafka()).brokers : null;
    const cluster = `throttle-${randomUUID().slice(0, 8)}`;
    const env = {
      PGQUORUM_METRICS_PORT: '0',
      PGQUORUM_KAFKA_PARTITIONS: '2',
      ...(brokers === null ? {} : { PGQUORUM_KAFKA_BROKERS: brokers.join(',') }),
    };
    await using gateway = await startGateway({ nodes: fresh.nodes, cluster, env });
    await gateway.send('PUT', '/v1/collections/docs', { body: { dimension: 1, index: { type: 'none' } } });
    const start = async () => {
      const { logger, lines } = listeningLogger();
      const app = await startReplicator(settingsFor(fresh.nodes, cluster, env), logger);
      const port = lines.find((line) => line.msg === 'metrics are served')!['port'] as number;
      const metric = async (name: string): Promise<number> => {
        const text = await (await fetch(`http://127.0.0.1:${port}/metrics`)).text();
        return Number(
          text
            .split('\n')
            .find((line) => line.startsWith(name))
            ?.split(' ')
            .at(-1),
        );
      };
      return { app, metric };
    };
    let replicator = await start();
    const ofEdge = (name: string) => `pgquorum_${name}{origin="n1",target="n2"`;
    const limited = () =>
      eventually(
        'the limit has reached the replicator',
        async () =>
          (await replicator.metric('pgquorum_bandwidth_limit_bytes_per_second{of="edge"')) === limit,
      );
    try {
      await write(gateway, 'free', 1);
      await eventually('the edge moves', async () => (await arrived(gateway)) === 1);
      expect((await put(gateway, { bytesPerSecond: limit })).status).toBe(200);
      await limited();
      // A broker gives whole batches, of each of the two partitions one that is more than was asked for.
      const ahead = log === 'kafka' ? 2 * 512 * 1024 : 0;
      const rows = 130 + 2 * Math.ceil(ahead / rowBytes);
      const started = performance.now();
      await write(gateway, 'a', rows);
      await eventually('all have arrived', async () => (await arrived(gateway)) === rows + 1, {
        withinMs: 60_000,
      });
      const seconds = (performance.now() - started) / 1000;
      // A tenth, and what may be made up for of the quiet time before.
      expect((rows * rowBytes - ahead) / seconds).toBeLessThan(limit * 1.1 + (limit * 0.25) / seconds);
      await eventually(
        'what was read is counted',
        async () => (await replicator.metric(ofEdge('edge_read_bytes_total'))) > rows * rowBytes,
      );
      await eventually('it is told', async () => {
        const told = await happened(gateway);
        return told.includes('began') && told.at(-1) === 'ended';
      });
      expect(await happened(gateway)).toEqual(['limit-set', 'began', 'ended']);
      await eventually('it is counted', async () => {
        const held = await replicator.metric(ofEdge('edge_throttled_seconds_total'));
        return held > 1 && held < seconds + 1;
      });
      // A restart knows the limit; lifting it lets go of a reader that waits.
      await replicator.app.close();
      replicator = await start();
      await limited();
      await write(gateway, 'b', 6 * rows);
      expect((await put(gateway, { bytesPerSecond: null })).status).toBe(200);
      const lifted = performance.now();
      await eventually('the rest has arrived', async () => (await arrived(gateway)) === 7 * rows + 1, {
        withinMs: 60_000,
      });
      expect((performance.now() - lifted) / 1000).toBeLessThan((6 * rows * rowBytes) / limit);
    } finally {
      await replicator.app.close();
    }
  }, 120_000);
});

test('limits are set by compare-and-set, kept on all nodes, and brought to a node that lacks them', async () => {
  await using gateway = await freshGateway({
    count: 2,
    env: { PGQUORUM_BANDWIDTH_BYTES_PER_S: '5000000' },
  });
  const get = async () => (await gateway.send('GET', path)).body;
  expect(await get()).toEqual({ bytesPerSecond: 5_000_000, totalBytesPerSecond: null, revision: '0' });
  const first = await put(gateway, { bytesPerSecond: 1_000_000 }, { 'if-match': '0' });
  expect(first).toMatchObject({
    status: 200,
    body: { bytesPerSecond: 1_000_000, totalBytesPerSecond: null, revision: '1' },
  });
  expect(await put(gateway, { bytesPerSecond: 2_000_000 }, { 'if-match': '0' })).toMatchObject({
    status: 412,
    body: { code: 'version_mismatch' },
  });
  const racing = await Promise.all(
    [1, 2, 3, 4].map((n) => put(gateway, { totalBytesPerSecond: n * 1_000_000 }, { 'if-match': '"1"' })),
  );
  expect(racing.map(({ status }) => status).toSorted((a, b) => a - b)).toEqual([200, 412, 412, 412]);
  expect(await get()).toEqual(racing.find(({ status }) => status === 200)!.body);
  const rows = (node: number) =>
    gateway.sql<{ revision: string }>(
      node,
      'select to_jsonb(t) - $1 as t, t.revision::text from pgquorum.throttle t',
      ['set_at'],
    );
  expect(await rows(0)).toEqual(await rows(1));
  // A node that was away, or restored: what the others have is true, and replicators bring it.
  await gateway.sql(1, 'delete from pgquorum.throttle');
  expect(await get()).toMatchObject({ revision: '2' });
  const [{ cluster }] = (await gateway.sql<{ cluster: string }>(0, 'select cluster from pgquorum.node')) as [
    { cluster: string },
  ];
  const replicator = await startReplicator(settingsFor(gateway.nodes, cluster), listeningLogger().logger);
  try {
    await eventually('it has them again', async () => (await rows(1)).length === 1);
    expect(await rows(1)).toEqual(await rows(0));
  } finally {
    await replicator.close();
  }
  using client = new GrpcClient(gateway.gateway.grpcPort);
  expect(await client.call('Replication', 'GetThrottle', {})).toMatchObject({
    bytesPerSecond: '1000000',
    revision: '2',
  });
  expect(
    await client.call('Replication', 'SetThrottle', {
      bytesPerSecond: 0,
      totalBytesPerSecond: 7000,
      ifMatch: '2',
    }),
  ).toEqual({ bytesPerSecond: '0', totalBytesPerSecond: '7000', revision: '3' });
  expect(await get()).toEqual({ bytesPerSecond: null, totalBytesPerSecond: 7000, revision: '3' });
  for (const [body, code] of [
    [{}, 'invalid_request'],
    [{ bytesPerSecond: 0 }, 'invalid_request'],
    [{ bytesPerSecond: 'fast' }, 'invalid_request'],
    [{ bytesPerSecond: 1.5e6, colour: 'red' }, 'unknown_field'],
    [[], 'invalid_request'],
  ] as const)
    expect(await put(gateway, body)).toMatchObject({ status: 400, body: { code } });
}, 120_000);
