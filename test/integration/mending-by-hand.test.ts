/** What docs/operating.md says to do by hand: its statements, on clusters that need them. */
import { expect, test } from '@jest/globals';
import { foundTestCluster } from '#core/testing/cluster.pg.ts';
import { eventually } from '#core/testing/wait.process.ts';

test('a change that was put aside as a dead letter is published again', async () => {
  await using cluster = await foundTestCluster({ count: 2, collections: ['docs'] });
  cluster.replicate();
  await cluster.query(1, `alter table docs add constraint small check (length(metadata::text) < 20)`);
  await cluster.query(
    0,
    `insert into docs values ('a', '[1,2,3]', '{"text": "too long for the other one"}')`,
  );
  await eventually(
    'the dead letter',
    async () => (await cluster.query(1, 'select from pgquorum.dead_letter')).length === 1,
  );

  await cluster.query(1, `alter table docs drop constraint small`);
  await cluster.query(0, `update pgquorum.version_docs set applied = false where id = 'a'`);
  await cluster.query(1, `delete from pgquorum.dead_letter where collection = 'docs' and key = 'a'`);
  await cluster.caughtUp();
  const [first, second] = await cluster.states('docs');
  expect(second).toEqual(first);
  expect(second!.some((line) => line.includes('too long'))).toBe(true);
  expect(await cluster.query(1, 'select from pgquorum.dead_letter')).toEqual([]);
}, 120_000);
