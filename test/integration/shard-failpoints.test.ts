/** The replicator that moves a shard dies by SIGKILL at each step, while users write on all masters: the move goes on from there, and nothing is lost or left over. */
import { expect, test } from '@jest/globals';
import { createCollection } from '#core/collections/catalog.pg.ts';
import { readJob, startJob } from '#core/jobs/store.pg.ts';
import { firstEpoch, planMap } from '#core/shards/entry.ts';
import { moveJob } from '#core/shards/move-request.ts';
import { eventually } from '#core/testing/wait.process.ts';
import { foundCluster } from '#core/topology/found.pg.ts';
import { withClient } from './convergence/states.ts';
import { failpointsOf } from './failpoints/places.ts';
import { definition, Scene } from './failpoints/scene.ts';
import { placedExactly } from './shards/placed.ts';
import { ShardUsers } from './shards/users.ts';

test('a move whose replicator dies at each step is finished by the next one', async () => {
  await using scene = await Scene.open(3);
  const nodes = scene.addresses();
  await foundCluster({ nodes, cluster: scene.cluster, log: 'wal' });
  const parts = { ...definition, shards: 2, replicationFactor: 2 };
  const names = nodes.map(({ name }) => name);
  const map = planMap('docs', { ...parts, epoch: firstEpoch(Date.now()) }, (shard) =>
    shard === 0 ? [names[0]!, names[1]!] : [names[1]!, names[2]!],
  );
  await createCollection({ nodes, name: 'docs', definition: parts, map });
  const [first, ...others] = [0, 1, 2].map((place) => scene.replicator(place));
  for (const other of others) other.start();
  await scene.query(
    0,
    `insert into docs (id, embedding) select 'k' || i, array_fill(i, array[8])::vector from generate_series(1, 200) i`,
  );
  const users = new ShardUsers(scene.masters, 'docs');
  try {
    const { id } = await withClient(scene.masters[0]!, (client) =>
      startJob(client, {
        kind: moveJob,
        arguments: { collection: 'docs', shard: 0, from: names[0], to: names[2] },
      }),
    );
    for (const point of failpointsOf('shards')) await scene.dies(first!, point);
    first!.start();
    await eventually(
      'the shard has moved',
      async () => {
        const job = (await withClient(scene.masters[0]!, (client) => readJob(client, id)))!;
        if (['failed', 'cancelled'].includes(job.state)) throw new Error(JSON.stringify(job.error));
        return job.state === 'done';
      },
      { withinMs: 120_000, everyMs: 100 },
    );
  } finally {
    await users.stop();
  }
  expect(users.refused.filter((code) => code !== '40P01')).toEqual([]);
  const states = await placedExactly(scene.masters, 'docs', parts);
  expect(users.missing(states)).toEqual([]);
  expect([...states.keys()].filter((key) => key.startsWith('k'))).toHaveLength(200);
  expect(await scene.query(1, 'select replicas from pgquorum.shard_map where shard = 0')).toEqual([
    { replicas: [names[2], names[1]] },
  ]);
  expect([...scene.reached].toSorted()).toEqual(failpointsOf('shards').toSorted());
}, 400_000);
