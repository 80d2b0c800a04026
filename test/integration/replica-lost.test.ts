/**
 * A node is lost for good, with writes that only one of the others had applied. It is declared lost: the others give each other what they have, and go on without it, also with
 * collections and with purging, which wait for no one any more. When it comes back it is told so, and takes no writes.
 */
import { expect, test } from '@jest/globals';
import { sharedKafka } from '#core/testing/broker.kafka.ts';
import { changeLogs, type LogName } from '#core/testing/change-logs.os.ts';
import { withMasters } from '#core/testing/masters.pg.ts';
import { eventually } from '#core/testing/wait.process.ts';
import { Scene } from './membership/scene.ts';
import { topicsOf } from './membership/topics.ts';

const logs = await changeLogs(['wal']);

const has = async (scene: Scene, node: number, id: string): Promise<boolean> =>
  (await scene.query(node, 'select from docs where id = $1', [id])).length === 1;

async function lose(log: LogName): Promise<void> {
  await withMasters({ count: 3 }, async (masters) => {
    await using scene = await Scene.start({ log, databases: 3, members: 3, masters, each: true });
    const [first, second, third] = scene.replicators;
    for (const replicator of scene.replicators) replicator.start();
    await scene.call('PUT', '/v1/collections/docs', { dimension: 3, shards: 4 });
    await scene.query(2, `insert into docs (id, embedding) values ('all', '[1,2,3]')`);
    for (const node of [0, 1])
      await eventually('all have it', () => has(scene, node, 'all'), { withinMs: 240_000 });

    // The second hears nothing more of the third.
    second!.signal('SIGSTOP');
    await scene.query(2, `insert into docs (id, embedding) values ('one', '[1,2,3]')`);
    await eventually('the first has it', () => has(scene, 0, 'one'), { withinMs: 240_000 });
    await masters.nodes[2]!.kill9();
    await third!.kill('SIGKILL');
    second!.signal('SIGCONT');
    await eventually(
      'the gateway notices',
      async () =>
        (await scene.gateway.send('DELETE', '/v1/replication/replicas/n3?lost=true')).status === 202,
      { withinMs: 240_000 },
    );
    const { items } = await scene.call<{ items: { id: string }[] }>('GET', '/v1/jobs?kind=remove-replica');
    const { id } = items[0]!;
    await eventually(
      'it is marked',
      async () =>
        (await scene.query(0, `select from pgquorum.member where name = 'n3' and change = 'lost'`)).length >
        0,
      { withinMs: 120_000, everyMs: 5 },
    );
    for (const replicator of [first!, second!]) {
      await replicator.kill('SIGKILL');
      replicator.start();
    }
    expect(await scene.finished(id)).toMatchObject({ state: 'done', result: { node: 'n3', lost: true } });
    expect(await has(scene, 1, 'one')).toBe(true);
    await scene.converged([0, 1], 'docs');
    for (const node of [0, 1]) {
      const traces = await scene.traces(node);
      expect(traces).toMatchObject({ origins: [1, 2], names: ['n1', 'n2'] });
      expect(traces.slots.filter((slot) => slot.endsWith('_3') || slot.includes('_3_'))).toEqual([]);
    }
    // Its topic is kept: consumers may not have read it to the end.
    if (log === 'kafka')
      expect(await topicsOf((await sharedKafka()).brokers, scene.fresh.cluster)).toContain(
        `pgquorum.${scene.fresh.cluster}.n3`,
      );
    // Nobody waits for it.
    expect((await scene.gateway.send('PUT', '/v1/collections/more', { body: { dimension: 3 } })).status).toBe(
      201,
    );

    await masters.nodes[2]!.start();
    third!.start();
    await eventually(
      'it is told',
      async () =>
        (
          await scene.query<{ problem: string | null }>(
            2,
            'select identity_problem as problem from pgquorum.node',
          )
        ).some(({ problem }) => problem?.includes('declared lost')),
      { withinMs: 240_000 },
    );
    await eventually('it takes no writes', () =>
      scene.query(2, `insert into docs (id, embedding) values ('late', '[1,2,3]')`).then(
        () => false,
        (cause: unknown) => (cause as { code?: string }).code === 'PQ013',
      ),
    );
    const nodes = await scene.call<{ items: { id: string }[] }>('GET', '/v1/cluster/nodes');
    expect(nodes.items.map((one) => one.id)).toEqual(['n1', 'n2']);
    // Nothing was made for it again.
    for (const node of [0, 1])
      expect(
        (await scene.traces(node)).slots.filter((slot) => slot.endsWith('_3') || slot.includes('_3_')),
      ).toEqual([]);
  });
}

/** Each with a write that only one of the others had applied, another one for each. */
async function loseTwo(): Promise<void> {
  await withMasters({ count: 5 }, async (masters) => {
    await using scene = await Scene.start({ log: 'wal', databases: 5, members: 5, masters, each: true });
    const [first, second, third] = scene.replicators;
    for (const replicator of scene.replicators) replicator.start();
    await eventually(
      'the collection is made',
      async () =>
        (await scene.gateway.send('PUT', '/v1/collections/docs', { body: { dimension: 3, shards: 4 } }))
          .status < 300,
      { withinMs: 240_000 },
    );
    for (const node of [3, 4])
      await scene.query(node, `insert into docs (id, embedding) values ('all-${node}', '[1,2,3]')`);
    for (const node of [0, 1, 2])
      for (const id of ['all-3', 'all-4'])
        await eventually('all have it', () => has(scene, node, id), { withinMs: 240_000 });
    for (const replicator of scene.replicators) await replicator.kill('SIGKILL');
    for (const [from, to, hears] of [
      [3, 0, first],
      [4, 1, second],
    ] as const) {
      hears!.start();
      await scene.query(from, `insert into docs (id, embedding) values ('one-${from}', '[1,2,3]')`);
      await eventually('one has it', () => has(scene, to, `one-${from}`), { withinMs: 200_000 }).catch(
        (cause: unknown) => {
          throw new Error(`one-${from}\n${scene.log.split('\n').slice(-30).join('\n')}`, { cause });
        },
      );
      await hears!.kill('SIGKILL');
      await masters.nodes[from]!.kill9();
    }
    for (const node of [0, 1, 2])
      expect([await has(scene, node, 'one-3'), await has(scene, node, 'one-4')]).toEqual([
        node === 0,
        node === 1,
      ]);
    for (const replicator of [first!, second!, third!]) replicator.start();
    for (const name of ['n4', 'n5'])
      await eventually(
        'the gateway notices',
        async () =>
          (await scene.gateway.send('DELETE', `/v1/replication/replicas/${name}?lost=true`)).status === 202,
        { withinMs: 240_000 },
      );
    const { items } = await scene.call<{ items: { id: string }[] }>('GET', '/v1/jobs?kind=remove-replica');
    expect(items).toHaveLength(2);
    for (const { id } of items) expect(await scene.finished(id)).toMatchObject({ state: 'done' });
    await scene.converged([0, 1, 2], 'docs');
    for (const node of [0, 1, 2]) {
      for (const id of ['one-3', 'one-4']) expect(await has(scene, node, id)).toBe(true);
      expect(await scene.traces(node)).toMatchObject({ origins: [1, 2, 3], names: ['n1', 'n2', 'n3'] });
    }
  });
}

const losses = [
  ...logs.map((log) => ({
    what: `a node that is lost is declared so, through ${log}`,
    run: () => lose(log),
  })),
  // Five servers: in the long form.
  ...(process.env['PGQUORUM_TEST_LONG'] === '1'
    ? [
        {
          what: 'two nodes of five are lost at once, and the others give each other what they had of them',
          run: loseTwo,
        },
      ]
    : []),
];
test.each(losses)('$what', ({ run }) => run(), 600_000);
