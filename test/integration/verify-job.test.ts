/** Verification as users ask for it: by HTTP and gRPC, run by whoever serves the node, also after a kill. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { expect, test } from '@jest/globals';
import { projectRoot } from '#core/config/project-root.files.ts';
import type { JobView } from '#core/jobs/job.ts';
import { runJobs } from '#core/jobs/runner.pg.ts';
import { readJob, startJob } from '#core/jobs/store.pg.ts';
import { foundTestCluster, listeningLogger, type TestCluster } from '#core/testing/cluster.pg.ts';
import { eventually } from '#core/testing/wait.process.ts';
import type { Report } from '#core/verify/report.ts';
import { verifyWork } from '#core/verify/verify-job.pg.ts';
import { startGateway } from './gateway-fixture.ts';
import { GrpcClient } from './grpc-client.ts';
import { pretendCaughtUp, runVerify } from './verify/run-verify.ts';

/** Runs the jobs of a node; returns what stops it. */
function runner(cluster: TestCluster, home = 0): () => Promise<void> {
  const abort = new AbortController();
  const { logger } = listeningLogger();
  const done = runJobs(
    {
      home: cluster.nodes[home]!,
      nodes: cluster.nodes,
      works: { verify: verifyWork({ cluster: cluster.cluster, logger }) },
      atOnceMax: 2,
      logger,
    },
    abort.signal,
  );
  return async () => {
    abort.abort();
    await done;
  };
}

test('a runner that is killed half-way leaves the job to the next one, which goes on behind the last shard that was done', async () => {
  await using cluster = await foundTestCluster({ count: 3, major: [16, 18, 18], collections: ['docs'] });
  await cluster.query(0, `insert into docs select 'k' || i, '[1,2,3]' from generate_series(1, 24) i`);
  await cluster.query(1, `insert into docs select 'k' || i, '[3,2,1]' from generate_series(17, 40) i`);
  await pretendCaughtUp(cluster);
  const client = await cluster.client(0);
  const { id } = await startJob(client, { kind: 'verify', arguments: { repair: 'merge' } });
  const child = spawn(
    join(projectRoot, 'node_modules/.bin/node'),
    [
      join(projectRoot, 'test/integration/verify/runner.ts'),
      JSON.stringify({ cluster: cluster.cluster, nodes: cluster.nodes }),
    ],
    { stdio: ['ignore', 'inherit', 'inherit', 'ipc'], env: { PATH: process.env['PATH'] } },
  );
  const gone = once(child, 'exit');
  try {
    await eventually(
      'a shard is done',
      async () => {
        const { progress } = (await readJob(client, id))!;
        return progress.done > 0;
      },
      { everyMs: 5, withinMs: 60_000 },
    );
  } finally {
    child.kill('SIGKILL');
    await gone;
  }
  const left = (await readJob(client, id))!;
  expect(left.state).toBe('running');
  expect(left.progress.done).toBeLessThan(8);
  const stop = runner(cluster);
  const job = await eventually(
    'the job is done',
    async () => {
      const found = (await readJob(client, id))!;
      return found.state === 'done' ? found : null;
    },
    { withinMs: 60_000 },
  );
  await stop();
  // Keys that were mended and not yet noted are equal now: at most one shard's worth is missing from the counts.
  const report = job.result as Report;
  expect(report.shards).toBe(8);
  const [largest] = await cluster.query<{ n: number }>(
    0,
    'select count(*)::int as n from pgquorum.version_docs group by shard order by 1 desc limit 1',
  );
  expect(report.differences).toBeLessThanOrEqual(40);
  expect(report.differences).toBeGreaterThanOrEqual(40 - largest!.n);
  const [first, ...others] = await cluster.states('docs');
  for (const other of others) expect(other).toEqual(first);
  expect(first!.filter((line) => line.startsWith('row'))).toHaveLength(40);
  expect(first!.filter((line) => line.startsWith('conflict'))).toHaveLength(8);
}, 240_000);

test('a job that is cancelled ends in the middle of its work', async () => {
  await using cluster = await foundTestCluster({ count: 2, collections: ['docs'] });
  await cluster.query(0, `insert into docs select 'k' || i, '[1,2,3]' from generate_series(1, 80) i`);
  await pretendCaughtUp(cluster);
  const abort = new AbortController();
  await expect(
    runVerify(
      cluster,
      { repair: 'merge' },
      { pageKeys: 1, signal: abort.signal, onReport: () => setTimeout(() => abort.abort(), 5) },
    ),
  ).rejects.toThrow();
  const [copied] = await cluster.query<{ n: number }>(1, 'select count(*)::int as n from docs');
  expect(copied!.n).toBeGreaterThan(0);
  expect(copied!.n).toBeLessThan(80);
}, 240_000);

test('a node that is down is named in the report, and the others are compared', async () => {
  await using cluster = await foundTestCluster({ count: 3, collections: ['docs'] });
  await cluster.query(0, `insert into docs values ('k', '[1,2,3]')`);
  await pretendCaughtUp(cluster);
  const [n1, n2, n3] = cluster.nodes;
  const lost = { ...n3!, address: { ...n3!.address, url: 'postgres://nobody@127.0.0.1:1/none' } };
  const work = verifyWork({ cluster: cluster.cluster, logger: listeningLogger().logger });
  const job = {
    id: 'x',
    arguments: { repair: 'merge' },
    checkpoint: null,
    signal: new AbortController().signal,
    takesBack: false,
    report: () => Promise.resolve(),
    reportLast: () => Promise.resolve(),
  };
  expect(await work(job, { home: n1!, nodes: [n1!, n2!, lost] })).toMatchObject({
    unreachable: ['n3'],
    byOutcome: { mended: 1 },
  });
  expect(await cluster.query(1, 'select id from docs')).toHaveLength(1);
  await expect(work(job, { home: n1!, nodes: [n1!, lost] })).rejects.toThrow('only 1 can be reached');
  await expect(
    work({ ...job, arguments: { deep: true, repair: 'prefer:n3' } }, { home: n1!, nodes: [n1!, n2!, lost] }),
  ).rejects.toThrow('n3');
}, 240_000);

test('it is asked for by HTTP and gRPC; bad requests are refused with the field that is wrong', async () => {
  await using cluster = await foundTestCluster({ count: 2, collections: ['docs'] });
  await using gateway = await startGateway({ nodes: cluster.masters, cluster: cluster.cluster });
  const refused: [unknown, number, string][] = [
    [{ repair: 'fix' }, 400, 'invalid_request'],
    [{ repair: 'prefer:n9', deep: true }, 400, 'invalid_request'],
    [{ repair: 'prefer:n1', deep: false }, 400, 'invalid_request'],
    [{ deep: 'yes' }, 400, 'invalid_request'],
    [{ collection: 'Docs' }, 400, 'invalid_name'],
    [{ collection: 7 }, 400, 'invalid_request'],
    [{ collection: 'never' }, 404, 'collection_not_found'],
    [{ colection: 'docs' }, 400, 'unknown_field'],
    [[], 400, 'invalid_request'],
  ];
  for (const [body, status, code] of refused)
    expect([body, await gateway.send('POST', '/v1/verify', { body })]).toMatchObject([
      body,
      { status, body: { code } },
    ]);
  const asked = await gateway.send('POST', '/v1/verify', {
    body: { collection: 'docs', repair: 'prefer:n2' },
  });
  expect(asked.status).toBe(202);
  const { job } = asked.body as { job: { id: string; state: string } };
  expect(asked.headers.get('location')).toBe(`/v1/jobs/${job.id}`);
  expect(job.state).toBe('waiting');
  using client = new GrpcClient(gateway.gateway.grpcPort);
  expect(await client.call('Replication', 'Verify', { collection: 'docs' })).toMatchObject({
    kind: 'verify',
    argumentsJson: '{"deep":false,"repair":"none","collection":"docs"}',
  });
  await expect(client.call('Replication', 'Verify', { repair: 'fix' })).rejects.toThrow('repair');
  const stops = [0, 1].map((home) => runner(cluster, home));
  const done = await eventually('it is done', async () => {
    const { body } = await gateway.send('GET', `/v1/jobs/${job.id}`);
    return (body as JobView).state === 'done' ? (body as JobView) : null;
  });
  for (const stop of stops) await stop();
  expect(done).toMatchObject({
    kind: 'verify',
    arguments: { collection: 'docs', deep: true, repair: 'prefer:n2' },
    progress: { done: 8, total: 8, unit: 'shards' },
    result: { shards: 8, differences: 0, listed: [], truncated: false },
  });
}, 240_000);
