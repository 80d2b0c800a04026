/** Preflight on real servers: what is missing is found, and the statement that comes with a finding makes it go. */
import { execFile } from 'node:child_process';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, jest, test } from '@jest/globals';
import pg from 'pg';
import { projectRoot } from '#core/config/project-root.files.ts';
import type { Finding } from '#core/postgres/preflight-facts.ts';
import { preflight } from '#core/postgres/preflight.pg.ts';
import type { PreflightReport } from '#core/postgres/preflight.ts';
import { createLogger } from '#core/observability/logger.process.ts';
import { foundOn } from '#core/testing/cluster.pg.ts';
import { freshNodes } from '#core/testing/fresh-nodes.pg.ts';
import { startMasters, type TestMaster, type TestNode } from '#core/testing/masters.pg.ts';
import { eventually } from '#core/testing/wait.process.ts';
import { startReplicator } from '../../apps/replicator/src/app.module.ts';
import { settingsFor, startGateway } from './gateway-fixture.ts';
import { GrpcClient } from './grpc-client.ts';
import { pgbouncerPath, startPgBouncer } from './preflight/pgbouncer.ts';
import { PoolingProxy } from './preflight/pooling-proxy.ts';

jest.setTimeout(120_000);

const look = (
  nodes: readonly Pick<TestNode, 'name' | 'url'>[],
  cluster = 'fly',
  log: 'wal' | 'kafka' = 'wal',
) =>
  preflight({
    nodes: nodes.map(({ name, url }) => ({ name, url, zone: 'z', weight: 1 })),
    cluster,
    log,
    clockDriftMaxMs: 10_000,
  });

const checks = ({ findings }: PreflightReport): string[] =>
  [...new Set(findings.map(({ check }) => check))].toSorted();

async function asSuper(node: TestNode, statements: readonly string[]): Promise<void> {
  const client = new pg.Client(node.superUrl);
  await client.connect();
  try {
    for (const statement of statements) await client.query(statement);
  } finally {
    await client.end();
  }
}

/** Does what the findings say, to the letter. */
async function mend(nodes: readonly TestMaster[], findings: readonly Finding[]): Promise<void> {
  for (const node of nodes) {
    const mends = findings.flatMap((found) =>
      found.node === node.name && found.mend !== null ? [found.mend] : [],
    );
    await asSuper(
      node,
      mends.flatMap(({ statements }) => statements),
    );
    if (mends.some(({ restart }) => restart)) await node.restart();
  }
}

test('a server that lacks everything is told so, and the statements that come with it make it a master', async () => {
  await using masters = await startMasters({
    count: 2,
    settings: {
      wal_level: 'replica',
      max_replication_slots: '0',
      max_wal_senders: '0',
      max_prepared_transactions: '0',
      max_parallel_maintenance_workers: '0',
      max_worker_processes: '2',
      max_slot_wal_keep_size: '-1',
      max_connections: '20',
      full_page_writes: 'off',
      synchronous_commit: 'off',
      default_transaction_read_only: 'on',
      statement_timeout: '60000',
      idle_session_timeout: '60000',
      idle_replication_slot_timeout: '60',
    },
  });
  const [poor] = masters.nodes;
  await asSuper(poor!, [
    'set default_transaction_read_only = off',
    'drop extension vector',
    'alter role pgquorum noreplication connection limit 9',
    'alter database pgquorum owner to postgres',
    'alter role pgquorum in database pgquorum set transaction_timeout = 60000',
    'revoke create on schema public from public',
  ]);
  const before = await look(masters.nodes);
  expect(before.ok).toBe(false);
  expect(before.nodes.map(({ reached, founded }) => [reached, founded])).toEqual([
    [true, false],
    [true, false],
  ]);
  const poors = before.findings.filter(({ node }) => node === 'n1');
  expect(poors.map(({ check }) => check).toSorted()).toEqual([
    'connection_limit',
    'create_in_database',
    'create_in_public',
    'default_transaction_read_only',
    'disk',
    'fsync',
    'full_page_writes',
    'idle_replication_slot_timeout',
    'idle_session_timeout',
    'max_connections',
    'max_parallel_maintenance_workers',
    'max_prepared_transactions',
    'max_replication_slots',
    'max_slot_wal_keep_size',
    'max_wal_senders',
    'max_worker_processes',
    'pgvector',
    'replication_connection',
    'replication_origins',
    'replication_role',
    'session_replication_role',
    'statement_timeout',
    'synchronous_commit',
    'transaction_timeout',
    'wal_level',
  ]);
  for (const { seen, why } of before.findings)
    expect([seen, why].every((said) => said.length > 10)).toBe(true);
  await mend(masters.nodes, before.findings);
  // Whether this machine's disk is full is not for the test to say.
  const after = (await look(masters.nodes)).findings.filter(
    ({ check, severity }) => check !== 'disk' || severity === 'advice',
  );
  expect(after).toEqual([]);
  await using cluster = await foundOn(masters.nodes, { cluster: 'fly', collections: ['docs'] });
  expect(cluster.nodes).toHaveLength(2);
}, 120_000);

test('a cluster that runs has no findings, and what happens to its tables is found and mended', async () => {
  await using masters = await startMasters({ count: 2, fsync: true, originPrivileges: true });
  await using cluster = await foundOn(masters.nodes, { cluster: 'fly', collections: ['docs', 'more'] });
  const known = new Set(['disk']);
  const findings = async (): Promise<Finding[]> =>
    (await look(masters.nodes)).findings.filter(({ check }) => !known.has(check));
  expect(await findings()).toEqual([]);
  await asSuper(masters.nodes[1]!, [
    'alter table docs replica identity nothing',
    'alter table more replica identity full',
    'alter table more owner to postgres',
    'alter table pgquorum.conflict owner to postgres',
    'alter function pgquorum.key_hash(text) owner to postgres',
    'alter role pgquorum superuser',
  ]);
  // A superuser owns everything in effect.
  expect((await findings()).map(({ check, severity, node }) => [check, severity, node])).toEqual([
    ['replica_identity', 'error', 'n2'],
    ['superuser', 'warning', 'n2'],
    ['replica_identity', 'warning', 'n2'],
  ]);
  await mend(masters.nodes, await findings());
  const owned = await findings();
  expect(owned.map(({ check, severity }) => [check, severity])).toEqual([
    ['ownership', 'error'],
    ['ownership', 'error'],
  ]);
  await mend(masters.nodes, owned);
  expect(await findings()).toEqual([]);
  await cluster.query(1, `insert into docs values ('k', '[1,2,3]')`);
}, 120_000);

test('slots and senders that others use are missed, those of the cluster are not', async () => {
  await using masters = await startMasters({ count: 2, settings: { max_replication_slots: '2' } });
  await using cluster = await foundOn(masters.nodes, { cluster: 'fly', collections: [] });
  const slots = async (name = 'fly'): Promise<string[]> =>
    (await look(masters.nodes, name)).findings.flatMap(({ check, seen }) =>
      check === 'max_replication_slots' ? [seen] : [],
    );
  await cluster.query(0, `select pg_create_logical_replication_slot('a_users', 'pgoutput')`);
  expect(await slots()).toEqual([]);
  expect(await slots('other')).toEqual(['2 replication slots, 2 of them used by others: 0 left, 1 needed']);
  expect(checks(await look(masters.nodes, 'other'))).toContain('identity');
  await cluster.query(0, `select pg_drop_replication_slot('a_users')`);
}, 120_000);

test('a node that can not be reached, a wrong password and a database listed twice are findings of their own', async () => {
  await using fresh = await freshNodes({ count: 2 });
  const [first, second] = fresh.nodes;
  const change = (node: TestNode, name: string, how: (url: URL) => void) => {
    const url = new URL(node.url);
    how(url);
    return { name, url: url.href };
  };
  const { ok, findings } = await look([
    { name: 'good', url: first!.url },
    { name: 'twice', url: first!.url },
    change(second!, 'closed', (url) => void (url.port = '1')),
    change(second!, 'stranger', (url) => void (url.password = 'wrong')),
    change(second!, 'nowhere', (url) => void (url.pathname = '/no_such_database')),
  ]);
  expect(ok).toBe(false);
  const said = findings.filter(({ check }) => ['connection', 'same_database'].includes(check));
  expect(said.map(({ node, check }) => [node, check])).toEqual([
    ['closed', 'connection'],
    ['stranger', 'connection'],
    ['nowhere', 'connection'],
    ['twice', 'same_database'],
  ]);
  expect(said[0]!.seen).toBe('no connection (ECONNREFUSED)');
  expect(said[1]!.why).toContain('password');
  expect(said[2]!.why).toContain('no such database');
  expect(JSON.stringify(findings)).not.toContain(new URL(first!.url).password);
});

test('a pooler in transaction mode is seen, by what the protocol shows', async () => {
  await using fresh = await freshNodes({ count: 1 });
  for (const refusesOptions of [false, true]) {
    await using proxy = await PoolingProxy.start(fresh.nodes[0]!.url, { refusesOptions });
    const { findings } = await look([{ name: 'n1', url: proxy.url }]);
    const found = findings.filter(({ check }) => ['pooler', 'replication_connection'].includes(check));
    expect(found.map(({ check, severity }) => [check, severity])).toEqual([
      ['pooler', 'error'],
      ['replication_connection', 'error'],
    ]);
    expect(found[0]!.seen).toContain('transaction');
  }
  expect(checks(await look(fresh.nodes))).not.toContain('pooler');
});

(pgbouncerPath === undefined ? test.skip : test)(
  `PgBouncer is seen in both modes${pgbouncerPath === undefined ? ' (left out: it is not installed)' : ''}`,
  async () => {
    await using fresh = await freshNodes({ count: 1 });
    for (const mode of ['transaction', 'session'] as const) {
      await using bouncer = await startPgBouncer(fresh.nodes[0]!.url, mode);
      const { findings } = await look([{ name: 'n1', url: bouncer.url }]);
      expect(findings.find(({ check }) => check === 'pooler')).toMatchObject({
        severity: mode === 'transaction' ? 'error' : 'warning',
        seen: expect.stringContaining(mode),
      });
    }
  },
);

test('the route makes a job whose result is the report; so does gRPC', async () => {
  await using fresh = await freshNodes({ count: 2 });
  await using gateway = await startGateway({ nodes: fresh.nodes, cluster: fresh.cluster });
  const replicator = await startReplicator(
    settingsFor(fresh.nodes, fresh.cluster),
    createLogger({ app: 'test', level: 'silent' }),
  );
  try {
    const answer = await gateway.send('POST', '/v1/preflight');
    expect(answer.status).toBe(202);
    const { job } = answer.body as { job: { id: string; state: string; progress: object } };
    expect(job).toEqual({ id: job.id, state: 'waiting', progress: { done: 0, total: null, unit: 'nodes' } });
    const done = await eventually('it is done', async () => {
      const { body } = await gateway.send('GET', `/v1/jobs/${job.id}`);
      return (body as { state: string }).state === 'done' ? (body as { result: PreflightReport }) : null;
    });
    expect(done.result.nodes.map(({ name, reached, founded }) => [name, reached, founded])).toEqual([
      ['n1', true, true],
      ['n2', true, true],
    ]);
    expect(checks(done.result)).toContain('fsync');
    using client = new GrpcClient(gateway.gateway.grpcPort);
    expect(await client.call('Cluster', 'Preflight', {})).toMatchObject({ kind: 'preflight' });
    expect((await gateway.send('POST', '/v1/preflight', { body: { nodes: [] } })).body).toMatchObject({
      code: 'unknown_field',
    });
  } finally {
    await replicator.close();
  }
}, 120_000);

test('pgquorum doctor prints the findings with their statements, and fails while there are errors', async () => {
  await using fresh = await freshNodes({ count: 2 });
  const nodes = fresh.nodes.map(({ name, url, zone }) => ({ name, url, zone }));
  const run = (...args: string[]): Promise<{ code: number; out: string }> =>
    new Promise((resolve) => {
      execFile(
        join(projectRoot, 'node_modules/.bin/node'),
        [join(projectRoot, 'dist/apps/cli/src/main.js'), 'doctor', ...args],
        { cwd: tmpdir(), env: { PATH: process.env['PATH'], PGQUORUM_NODES: JSON.stringify(nodes) } },
        (error, out) => resolve({ code: error === null ? 0 : Number(error.code), out }),
      );
    });
  // Masters of tests have fsync off.
  const text = await run();
  expect(text.code).toBe(1);
  expect(text.out).toContain(`ERROR n1 fsync: fsync is off`);
  expect(text.out).toContain(`superuser> alter system set fsync = 'on';`);
  const json = await run('--json');
  expect(json.code).toBe(1);
  expect((JSON.parse(json.out) as PreflightReport).findings.map(({ check }) => check)).toContain('fsync');
  expect((await run('--odd')).code).toBe(2);
}, 120_000);
