/**
 * A removal is cancelled when the node is closed to writes already, and its runner dead: the node is a master like the others again, and can be removed later, by one of two jobs that were
 * started at the same moment. It is added and removed by gRPC.
 */
import { expect, test } from '@jest/globals';
import { GrpcClient } from './grpc-client.ts';
import { Scene } from './membership/scene.ts';
import { eventually } from '#core/testing/wait.process.ts';

const closedSql = `select from pg_trigger where tgname = 'pgquorum_refuse'`;
const insert = (id: string): string => `insert into docs (id, embedding) values ('${id}', '[1,2,3]')`;

/** Until the job's checkpoint of this number is kept; then nobody runs it. */
async function dies(scene: Scene, checkpoint: number): Promise<void> {
  await scene.replicator.kill('SIGTERM');
  scene.replicator.start({
    PGQUORUM_TEST_FAULTS: 'on',
    PGQUORUM_TEST_FAILPOINT: `job-checkpointed:${checkpoint}`,
  });
  expect(await scene.replicator.endedBy()).toBe('SIGKILL');
}

/** As when two gateways are asked at the same moment: each looks for other jobs, and starts one. */
async function startAnother(scene: Scene): Promise<string> {
  const rows = await scene.query<{ id: string }>(
    1,
    `insert into pgquorum.job (kind, arguments, progress, on_cancel) values ('remove-replica', '{"node":"n3","lost":false,"topics":"keep"}', '{"done":0,"total":null,"unit":"steps"}', 'takes back') returning id`,
  );
  return rows[0]!.id;
}

test('a removal that is cancelled leaves the node as it was, and beyond the last step is refused', async () => {
  await using scene = await Scene.start({ log: 'wal', databases: 3, members: 2 });
  scene.replicator.start();
  await scene.call('PUT', '/v1/collections/docs', { dimension: 3, shards: 4 });
  using grpc = new GrpcClient(scene.gateway.gateway.grpcPort);
  const ask = async (name: string, request: object): Promise<string> =>
    ((await grpc.call('Replication', name, request)) as { id: string }).id;
  const { name, url, zone } = scene.fresh.nodes[2]!;
  expect(await scene.finished(await ask('AddReplica', { name, url, zone }))).toMatchObject({
    state: 'done',
    result: { node: 'n3' },
  });
  await scene.query(2, insert('before'));

  const cancelled = await ask('RemoveReplica', { node: 'n3' });
  await dies(scene, 3);
  expect(await scene.query(2, closedSql)).toHaveLength(1);
  await expect(scene.query(2, insert('refused'))).rejects.toMatchObject({ code: 'PQ013' });
  expect(await scene.gateway.send('DELETE', `/v1/jobs/${cancelled}`)).toMatchObject({
    status: 202,
    body: { job: { id: cancelled, state: 'running' } },
  });
  scene.replicator.start();
  expect(await scene.finished(cancelled)).toMatchObject({ state: 'cancelled' });
  expect(await scene.query(2, closedSql)).toEqual([]);
  for (const node of [0, 1, 2])
    expect(
      await scene.query(
        node,
        'select number from pgquorum.member where change is not null or change_job is not null',
      ),
    ).toEqual([]);
  await scene.query(2, insert('open'));
  await scene.converged([0, 1, 2], 'docs');
  await eventually(
    'it is one of them',
    async () => {
      const { items } = await scene.call<{ items: { id: string; status: string }[] }>(
        'GET',
        '/v1/replication/replicas',
      );
      return items.find((one) => one.id === 'n3')?.status === 'active';
    },
    { withinMs: 120_000 },
  );

  const jobs = [await ask('RemoveReplica', { node: 'n3' })];
  await dies(scene, 2);
  jobs.push(await startAnother(scene));
  scene.replicator.start();
  const ended = [];
  for (const id of jobs) ended.push(await scene.finished(id));
  expect(ended.map(({ state }) => state).toSorted()).toEqual(['done', 'failed']);
  const failed = ended.find(({ state }) => state === 'failed')!;
  expect(['membership_busy', 'node_removed', 'node_not_found']).toContain(failed.error?.code);
  const done = ended.find(({ state }) => state === 'done')!;
  expect(done.result).toEqual({ node: 'n3', lost: false });
  const kept = [];
  for (const node of [0, 1])
    kept.push(...(await scene.query(node, 'select on_cancel from pgquorum.job where id = $1', [done.id])));
  expect(kept).toEqual([{ on_cancel: 'refused' }]);
  expect(
    (await scene.query<{ id: string }>(0, 'select id from docs order by id')).map(({ id }) => id),
  ).toEqual(['before', 'open']);
}, 300_000);
