/** What docs/operating.md says to do by hand: its statements, on clusters that need them. */
import { expect, test } from '@jest/globals';
import { foundTestCluster } from '#core/testing/cluster.pg.ts';
import { edgeSlot } from '#core/topology/names.ts';
import { eventually } from '#core/testing/wait.process.ts';

test('what a lost slot has missed is brought over by hand', async () => {
  await using cluster = await foundTestCluster({ count: 2, collections: ['docs'] });
  const [one, two] = cluster.nodes;
  cluster.replicate();
  await cluster.query(
    0,
    `insert into docs (id, embedding) select 'k' || n, '[1,2,3]' from generate_series(1, 20) n`,
  );
  await cluster.caughtUp();
  await cluster.stopEdges();

  // Missed on the way from the first to the second: new rows, changes, deletes, and one that is concurrent with a write of the other.
  await cluster.dropSlot(0, edgeSlot(cluster.cluster, one!.number, two!.number));
  await cluster.query(0, `insert into docs (id, embedding) values ('new', '[1,1,1]')`);
  await cluster.query(0, `update docs set metadata = '{"n": 1}' where id in ('k1', 'k2')`);
  await cluster.query(0, `delete from docs where id in ('k3', 'k4')`);
  await cluster.query(1, `update docs set metadata = '{"n": 2}' where id in ('k2', 'k4')`);

  const edge = cluster.edge(0, 1);
  await eventually('the loss shows', () =>
    edge.failures.some((cause) => (cause as { code?: string }).code === 'position_lost'),
  );
  await cluster.stopEdges();

  await cluster.query(1, `update pgquorum.source set state = 'creating' where origin = ${one!.number}`);
  await cluster.found();
  cluster.replicate();
  await cluster.query(0, 'update pgquorum.version_docs set applied = false');
  await cluster.query(0, 'update pgquorum.conflict set applied = false');
  await cluster.caughtUp();
  await cluster.caughtUp();
  const [first, second] = await cluster.states('docs');
  expect(second).toEqual(first);
  expect(first!.filter((line) => line.startsWith('row '))).toHaveLength(20);
  expect(first!.filter((line) => line.startsWith('conflict '))).toHaveLength(2);
}, 120_000);

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
