/** The stream of changes while a master is down: the others go on, what it had committed is told when it is back, and nothing is told out of order. */
import { expect, jest, test } from '@jest/globals';
import { startMasters } from '#core/testing/masters.pg.ts';
import { eventually } from '#core/testing/wait.process.ts';
import { foundCluster } from '#core/topology/found.pg.ts';
import { ChangeListener, listen } from './change-listener.ts';
import { startGateway } from './gateway-fixture.ts';
import { confirming } from './identity/confirming.ts';

jest.setTimeout(120_000);

const cluster = 'outage';

test('a master that crashes holds up nobody, and its changes come when it is back', async () => {
  await using masters = await startMasters({ count: 2 });
  await using gateway = await startGateway({ nodes: masters.nodes, cluster });
  const [peer, origin] = await foundCluster({
    nodes: masters.nodes.map(({ name, url, zone }) => ({ name, url, zone, weight: 1 })),
    cluster,
    log: 'wal',
  });
  await gateway.send('PUT', '/v1/collections/docs', { body: { dimension: 3 } });
  const base = `http://127.0.0.1:${gateway.gateway.httpPort}`;
  const insert = (node: number, id: string) =>
    gateway.sql(node, `insert into docs (id, embedding) values ($1, '[1,2,3]')`, [id]);
  await using listener = await listen(base);
  await insert(0, 'a1');
  await insert(1, 'b1');
  await listener.until(2);
  const { last } = listener;
  await masters.nodes[1]!.kill9();
  await insert(0, 'a2');
  await listener.until(3);
  expect(listener.keys[2]).toBe('a2');
  // Who comes back now goes on with the others too; without a position nobody could come back later.
  await using resumed = await listen(base, { from: last });
  await resumed.until(1);
  expect(resumed.keys).toEqual(['a2']);
  const refused = await eventually('the crash is noticed', async () => {
    const answer = await ChangeListener.open(base);
    if (answer instanceof ChangeListener) await answer.close();
    return !(answer instanceof ChangeListener) && answer;
  });
  expect(refused).toMatchObject({ status: 503, code: 'replicas_unavailable' });
  await masters.nodes[1]!.start();
  await using _ = confirming(origin!, [peer!]);
  await insert(1, 'b2');
  await insert(0, 'a3');
  await listener.until(5);
  await resumed.until(3);
  expect(listener.keys.slice(3).toSorted()).toEqual(['a3', 'b2']);
  expect(resumed.keys.slice(1).toSorted()).toEqual(['a3', 'b2']);
  expect([...listener.problems, ...resumed.problems]).toEqual([]);
});
