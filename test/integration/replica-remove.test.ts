/**
 * A node is removed while it and the others are written: what it has acknowledged is on all others, nothing of it is left anywhere, and its tables are plain tables. The process that runs
 * the job is killed on the way; processes whose lists still have the node leave it alone.
 */
import { expect, test } from '@jest/globals';
import pg from 'pg';
import { sharedKafka } from '#core/testing/broker.kafka.ts';
import { changeLogs, type LogName } from '#core/testing/change-logs.os.ts';
import { eventually } from '#core/testing/wait.process.ts';
import { Scene } from './membership/scene.ts';
import { topicsOf } from './membership/topics.ts';

const logs = await changeLogs(['kafka']);

async function remove(log: LogName): Promise<void> {
  await using scene = await Scene.start({ log, databases: 3, members: 3 });
  scene.replicator.start();
  await scene.call('PUT', '/v1/collections/docs', { dimension: 3, shards: 4 });
  const users = scene.users('docs', [0, 2]);
  await eventually('users write', () => Promise.resolve(users.written.length > 20), { withinMs: 120_000 });
  const open = new pg.Client(scene.fresh.nodes[2]!.url);
  open.on('error', () => undefined); // only when the test has failed
  await open.connect();
  await open.query(`begin; insert into docs (id, embedding) values ('n2-late', '[1,2,3]')`);
  const { id } = (
    await scene.call<{ job: { id: string } }>(
      'DELETE',
      `/v1/replication/replicas/n3${log === 'kafka' ? '?topics=delete' : ''}`,
    )
  ).job;
  await eventually(
    'it waits for the transaction',
    async () => (await scene.job(id)).error?.code === 'table_busy',
    {
      withinMs: 120_000,
    },
  ).catch(async (cause: unknown) => {
    throw new Error(await scene.explain(id), { cause });
  });
  await scene.replicator.kill('SIGKILL');
  const replicas = await scene.call<{ items: { id: string; status: string }[] }>(
    'GET',
    '/v1/replication/replicas',
  );
  expect(replicas.items.find((one) => one.id === 'n3')?.status).toBe('leaving');
  await open.query('commit');
  await open.end();
  scene.replicator.start();
  // Once more, wherever it is: from closed to writes to gone.
  await eventually(
    'it is closed to writes, or gone',
    async () =>
      (
        await scene.query(
          2,
          `select where to_regnamespace('pgquorum') is null or exists (select from pg_trigger where tgname = 'pgquorum_refuse')`,
        )
      ).length > 0,
    { withinMs: 120_000, everyMs: 2 },
  );
  await scene.replicator.kill('SIGKILL');
  scene.replicator.start();
  expect(await scene.finished(id)).toMatchObject({ state: 'done', result: { node: 'n3', lost: false } });
  await users.stop();

  // No write through the gateway was refused, and none on the other node.
  expect(users.refused).toEqual([]);
  expect(users.refusedSql.filter((code) => code !== 'PQ013' && code !== '40P01')).toEqual([]);
  await scene.converged([0, 1], 'docs');
  const here = new Set((await scene.query<{ id: string }>(0, 'select id from docs')).map((row) => row.id));
  // On the third a write may have been a plain one already, after it had left.
  const left = await scene.query<{ id: string }>(2, `select id from docs where id like 'n2-%'`);
  expect(here).toContain('n2-late');
  const plain = left.map((row) => row.id).filter((one) => !here.has(one));
  const first = Math.min(...plain.map((one) => Number(one.slice(3))), Infinity);
  expect(
    users.written.filter(
      (one) => !here.has(one) && !(one.startsWith('n2-') && Number(one.slice(3)) >= first),
    ),
  ).toEqual([]);
  expect(users.written.filter((one) => one.startsWith('n2-') && here.has(one)).length).toBeGreaterThan(5);

  const slots = (reader: string): string[] => [`pgquorum_${scene.fresh.cluster}_${reader}`];
  const other =
    log === 'wal' ? { 0: slots('1_2'), 1: slots('2_1') } : { 0: slots('1_log'), 1: slots('2_log') };
  for (const node of [0, 1] as const) {
    const traces = await eventually('processes know', async () => {
      const found = await scene.traces(node);
      return found.origins.includes(3) ? null : found;
    });
    expect(traces).toEqual({
      slots: other[node],
      publications: ['pgquorum'],
      origins: [1, 2],
      names: ['n1', 'n2'],
    });
    expect(
      await scene.query(
        node,
        `select number, spare, retired, url from pgquorum.member where name = 'n3' order by number`,
      ),
    ).toEqual([
      { number: 3, spare: false, retired: true, url: null },
      { number: 6, spare: true, retired: true, url: null },
    ]);
  }
  expect(await scene.traces(2)).toEqual({ slots: [], publications: [], origins: [], names: [] });
  expect(
    await scene.query(
      2,
      `select to_regnamespace('pgquorum') as schema, (select count(*)::int from pg_trigger where tgrelid = 'docs'::regclass) as triggers`,
    ),
  ).toEqual([{ schema: null, triggers: 0 }]);
  await scene.query(2, `insert into docs (id, embedding) values ('plain', '[1,2,3]')`);
  if (log === 'kafka')
    expect(await topicsOf((await sharedKafka()).brokers, scene.fresh.cluster)).toEqual([
      `pgquorum.${scene.fresh.cluster}.n1`,
      `pgquorum.${scene.fresh.cluster}.n2`,
    ]);

  const nodes = await scene.call<{ items: { id: string }[] }>('GET', '/v1/cluster/nodes');
  expect(nodes.items.map((one) => one.id)).toEqual(['n1', 'n2']);
  expect(
    await scene.query(
      0,
      `select body ->> 'status' as status from pgquorum.event where type = 'replica-status' and (body ->> 'replica')::int = 3 and body ->> 'status' in ('leaving', 'removed') order by arrival`,
    ),
  ).toContainEqual({ status: 'removed' });
  expect(await scene.gateway.send('DELETE', '/v1/replication/replicas/n3')).toMatchObject({
    status: 404,
    body: { code: 'node_not_found' },
  });
  // Collections are made on those that are left; a process that still lists the third makes nothing there.
  await scene.replicator.kill('SIGTERM');
  scene.replicator.start();
  expect((await scene.gateway.send('PUT', '/v1/collections/more', { body: { dimension: 3 } })).status).toBe(
    201,
  );
  await eventually(
    'it says that it leaves it out',
    () => Promise.resolve(scene.log.includes('they are left out')),
    { withinMs: 120_000 },
  );
  expect(await scene.query(2, `select to_regnamespace('pgquorum') as schema`)).toEqual([{ schema: null }]);
}

test.each(logs)('a node is removed while all are written, through %s, with its topics', remove, 300_000);

test('the last node can not be removed, nor an unknown one, nor one that answers as lost', async () => {
  await using scene = await Scene.start({ log: 'wal', databases: 2, members: 2 });
  const remove = (path: string) => scene.gateway.send('DELETE', `/v1/replication/replicas/${path}`);
  expect(await remove('n9')).toMatchObject({ status: 404, body: { code: 'node_not_found' } });
  expect(await remove('n2?lost=true')).toMatchObject({ status: 409, body: { code: 'node_reachable' } });
  expect(await remove('n2?lost=yes')).toMatchObject({ status: 400, body: { code: 'invalid_request' } });
  expect((await remove('n2')).status).toBe(202);
  expect(await remove('n1')).toMatchObject({ status: 409, body: { code: 'membership_busy' } });
  scene.replicator.start();
  await eventually(
    'there is one left',
    async () => {
      const { items } = await scene.call<{ items: object[] }>('GET', '/v1/cluster/nodes');
      return items.length === 1;
    },
    { withinMs: 120_000 },
  );
  expect(await remove('n1')).toMatchObject({ status: 409, body: { code: 'last_node' } });
}, 300_000);
