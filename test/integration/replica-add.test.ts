/**
 * A node is added while everything runs and is written: processes that were started with a list that does not have it take it in. The process that runs the job and fills the
 * node is killed in the middle.
 */
import { expect, test } from '@jest/globals';
import { changeLogs, type LogName } from '#core/testing/change-logs.os.ts';
import { eventually } from '#core/testing/wait.process.ts';
import { Scene } from './membership/scene.ts';

const logs = await changeLogs(['kafka']);

async function prepared(log: LogName): Promise<Scene> {
  const scene = await Scene.start({
    log,
    databases: 3,
    members: 2,
    env: { PGQUORUM_RESYNC_KEYS_PER_S: '400' },
  });
  scene.replicator.start();
  await scene.call('PUT', '/v1/collections/docs', { dimension: 3, shards: 4 });
  await scene.query(
    0,
    `insert into docs (id, embedding) select 'k' || n, array[n, 1, 1]::vector from generate_series(1, 300) n`,
  );
  return scene;
}

async function add(log: LogName): Promise<void> {
  await using scene = await prepared(log);
  const { name, url, zone } = scene.fresh.nodes[2]!;
  const users = scene.users('docs', [0, 1]);
  const accepted = await scene.gateway.send('POST', '/v1/replication/replicas', {
    body: { name, url, zone },
  });
  expect(accepted.status).toBe(202);
  const { id } = (accepted.body as { job: { id: string } }).job;
  // A second change has to wait for its turn.
  expect(
    await scene.gateway.send('POST', '/v1/replication/replicas', { body: { name: 'other', url } }),
  ).toMatchObject({ status: 409, body: { code: 'membership_busy' } });
  await eventually(
    'it is being filled',
    async () =>
      (
        await scene
          .query<{ copied: number }>(2, 'select sum(copied)::int as copied from pgquorum.resync')
          .catch(() => [])
      ).some(({ copied }) => copied > 0),
    { withinMs: 120_000, everyMs: 5 },
  );
  await scene.replicator.kill('SIGKILL');
  const replicas = await scene.call<{ items: { id: string; status: string }[] }>(
    'GET',
    '/v1/replication/replicas',
  );
  expect(replicas.items.find((one) => one.id === name)?.status).toBe('joining');
  scene.replicator.start();
  const job = await scene.finished(id);
  expect(job).toMatchObject({ state: 'done', result: { node: name } });
  await users.stop();
  expect(users.refused).toEqual([]);
  expect(users.refusedSql).toEqual([]);
  expect(users.written.length).toBeGreaterThan(10);
  await scene.converged([0, 1, 2], 'docs');
  // Nobody was told where it is, but for those who have to find it.
  expect(JSON.stringify([job, scene.gateway.log, scene.log])).not.toContain(new URL(url).password);
  expect(await scene.query(0, 'select secret from pgquorum.job where secret is not null')).toEqual([]);
  // It is a master like the others: the gateway asks it, and it takes writes.
  await eventually(
    'the gateway takes it in',
    async () => {
      const nodes = await scene.call<{ items: { id: string; status: string }[] }>('GET', '/v1/cluster/nodes');
      return nodes.items.find((one) => one.id === name)?.status === 'alive';
    },
    { withinMs: 120_000 },
  );
  await scene.query(2, `insert into docs (id, embedding) values ('third', '[1,2,3]')`);
  await scene.converged([0, 1, 2], 'docs');
  expect(await scene.gateway.send('POST', '/v1/replication/replicas', { body: { name, url } })).toMatchObject(
    {
      status: 409,
      body: { code: 'node_exists' },
    },
  );
}

test.each(logs)(
  'a node is added through %s while users write, and the replicator is killed on the way',
  add,
  300_000,
);

test('what is in the way is told before anything is registered', async () => {
  await using scene = await Scene.start({ log: 'wal', databases: 3, members: 2 });
  scene.replicator.start();
  await scene.query(0, 'create table notes (id bigint primary key, body text, embedding vector(3))');
  expect(
    (await scene.gateway.send('POST', '/v1/collections/notes/attach', { body: { table: 'public.notes' } }))
      .status,
  ).toBe(202);
  await scene.call('PUT', '/v1/collections/docs', { dimension: 3, shards: 4 });
  await scene.query(2, 'create table docs (id text)');
  const { name, url } = scene.fresh.nodes[2]!;
  const { job } = await scene.call<{ job: { id: string } }>('POST', '/v1/replication/replicas', {
    name,
    url,
  });
  const failed = await scene.finished(job.id);
  expect(failed).toMatchObject({ state: 'failed', error: { code: 'preflight_failed' } });
  expect(failed.error!.detail).toContain('n3 has a relation "public"."docs"');
  const [, statement] =
    /lacks the attached table "public"."notes": (create table .*?\(id\)\))/.exec(failed.error!.detail) ?? [];
  expect(statement).toContain('"id" bigint');
  expect(await scene.query(2, `select to_regnamespace('pgquorum') as found`)).toEqual([{ found: null }]);
  expect(await scene.query(0, `select from pgquorum.member where name = 'n3'`)).toEqual([]);
  // Asked for again once it is mended, with what the detail says.
  await scene.query(2, 'drop table docs');
  await scene.query(2, statement!);
  const again = await scene.call<{ job: { id: string } }>('POST', '/v1/replication/replicas', { name, url });
  expect(await scene.finished(again.job.id)).toMatchObject({ state: 'done' });
  expect(
    await scene.gateway.send('POST', '/v1/replication/replicas', {
      body: { name: 'x', url: 'mysql://secret@h/' },
    }),
  ).toMatchObject({
    status: 400,
    body: { code: 'invalid_request', detail: expect.not.stringContaining('secret') },
  });
}, 300_000);
