/**
 * Masters come, go and are lost while users write on all of them, with a collection of which none holds everything: a new one takes its share and nothing else moves, one that
 * leaves hands its shards over first, and what a lost one held is filled anew. In the end everything is compared: each key on the replicas of its shard alone, all the same.
 */
import { expect, test } from '@jest/globals';
import { withMasters } from '#core/testing/masters.pg.ts';
import { eventually } from '#core/testing/wait.process.ts';
import { Scene, type JobBody } from './membership/scene.ts';
import { placedExactly } from './shards/placed.ts';
import { ShardUsers } from './shards/users.ts';

const definition = { dimension: 8, shards: 6, replicationFactor: 2, index: { type: 'none' } };

interface Shards {
  readonly items: readonly { readonly id: number; readonly replicas: readonly string[] }[];
}

const replicasOf = async (scene: Scene): Promise<(readonly string[])[]> =>
  (await scene.call<Shards>('GET', '/v1/cluster/shards/docs')).items.map(({ replicas }) => replicas);

/** Moves make many connections: on a busy machine each takes its time. */
const ended = async (scene: Scene, id: string): Promise<JobBody> =>
  eventually(
    'the job ends',
    async () => {
      const job = await scene.job(id);
      return ['done', 'failed', 'cancelled'].includes(job.state) ? job : null;
    },
    { withinMs: 300_000, everyMs: 200 },
  ).catch(async (cause: unknown) => {
    throw new Error(await scene.explain(id), { cause });
  });

const removing = async (scene: Scene, path: string): Promise<string> =>
  eventually(
    'the removal begins',
    async () => {
      const { status, body } = await scene.gateway.send('DELETE', `/v1/replication/replicas/${path}`);
      return status === 202 ? (body as { job: { id: string } }).job.id : null;
    },
    { withinMs: 120_000 },
  );

test('a master that joins takes its share, and one that leaves hands its shards over', async () => {
  await using scene = await Scene.start({ log: 'wal', databases: 4, members: 3 });
  scene.replicator.start();
  await scene.call('PUT', '/v1/collections/docs', definition);
  await scene.query(
    0,
    `insert into docs (id, embedding) select 'k' || i, array_fill(i, array[8])::vector from generate_series(1, 100) i`,
  );
  const before = await replicasOf(scene);
  const users = new ShardUsers(scene.fresh.nodes.slice(0, 3), 'docs');
  try {
    const { name, url, zone } = scene.fresh.nodes[3]!;
    const added = await scene.call<{ job: { id: string } }>('POST', '/v1/replication/replicas', {
      name,
      url,
      zone,
    });
    expect(await ended(scene, added.job.id)).toMatchObject({ state: 'done' });
    const taken = await eventually(
      'it has its shards',
      async () => {
        const { items } = await scene.call<{ items: { state: string; result?: { shards: number } }[] }>(
          'GET',
          '/v1/jobs?kind=take-shards',
        );
        return items[0]?.state === 'done' ? items[0].result! : null;
      },
      { withinMs: 300_000 },
    );
    const grown = await replicasOf(scene);
    expect(grown.filter((replicas) => replicas.includes(name))).toHaveLength(taken.shards);
    for (const [shard, replicas] of grown.entries())
      expect(replicas.filter((one) => one !== name && !before[shard]!.includes(one))).toEqual([]);

    const id = await removing(scene, 'n1');
    await eventually(
      'it has handed something over',
      async () =>
        (await replicasOf(scene)).flat().filter((one) => one === 'n1').length <
        grown.flat().filter((one) => one === 'n1').length,
      { withinMs: 300_000, everyMs: 20 },
    );
    await scene.replicator.kill('SIGKILL');
    scene.replicator.start();
    expect(await ended(scene, id)).toMatchObject({ state: 'done' });
  } finally {
    await users.stop();
  }
  expect(users.refused.filter((code) => code !== 'PQ013' && code !== '40P01')).toEqual([]);
  const states = await placedExactly(scene.fresh.nodes.slice(1), 'docs', definition);
  expect(users.missing(states)).toEqual([]);
  expect([...states.keys()].filter((key) => key.startsWith('k'))).toHaveLength(100);
  // What it held is where it belongs; it is not here any more.
  expect(await scene.query(0, 'select count(*)::int as rows from docs')).toEqual([{ rows: 0 }]);
}, 900_000);

test('what a lost master held is filled anew from those that are left', async () => {
  await withMasters({ count: 3 }, async (masters) => {
    await using scene = await Scene.start({ log: 'wal', databases: 3, members: 3, masters, each: true });
    for (const replicator of scene.replicators) replicator.start();
    await scene.call('PUT', '/v1/collections/docs', definition);
    await scene.query(
      2,
      `insert into docs (id, embedding) select 'k' || i, array_fill(i, array[8])::vector from generate_series(1, 100) i`,
    );
    await placedExactly(scene.fresh.nodes, 'docs', definition);
    const users = new ShardUsers(scene.fresh.nodes.slice(0, 2), 'docs');
    try {
      await eventually('users write', () => Promise.resolve(users.written.size > 40), { withinMs: 120_000 });
      await masters.nodes[2]!.kill9();
      await scene.replicators[2]!.kill('SIGKILL');
      expect(await ended(scene, await removing(scene, 'n3?lost=true'))).toMatchObject({ state: 'done' });
    } finally {
      await users.stop();
    }
    const states = await placedExactly(scene.fresh.nodes.slice(0, 2), 'docs', definition);
    expect(users.missing(states)).toEqual([]);
    expect([...states.keys()].filter((key) => key.startsWith('k'))).toHaveLength(100);
    expect((await replicasOf(scene)).map((replicas) => replicas.toSorted())).toEqual(
      Array.from({ length: definition.shards }, () => ['n1', 'n2']),
    );
  });
}, 900_000);
