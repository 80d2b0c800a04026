/** An edge that can not begin says why where operators look: in the source's row, which status and readiness show. */
import { expect, test } from '@jest/globals';
import { foundTestCluster } from '#core/testing/cluster.pg.ts';
import { eventually } from '#core/testing/wait.process.ts';

test('what keeps an edge from beginning stands in its source until it has begun', async () => {
  await using cluster = await foundTestCluster({ count: 2, collections: ['docs'] });
  const problem = async () =>
    (
      await cluster.query<{ problem: string | null }>(
        1,
        `select problem from pgquorum.source where log = 'wal' and origin = (select number from pgquorum.member where name = 'n1' and not spare)`,
      )
    )[0]!.problem;
  const state = (to: string) =>
    cluster.query(1, `update pgquorum.source set state = '${to}' where log = 'wal'`);
  expect(await problem()).toBeNull();
  await state('creating');
  cluster.edge(0, 1);
  await eventually('the problem is told', async () => (await problem())?.includes('is no source here yet'));
  await state('ready');
  await cluster.query(0, `insert into docs values ('a', '[1,2,3]')`);
  await eventually('the edge runs and has no problem', async () => (await problem()) === null);
  await cluster.caughtUp();
}, 60_000);
