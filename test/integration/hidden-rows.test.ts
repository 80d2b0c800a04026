/** Row-level security that is forced on a table hides rows from its owner, as whom we look: what is hidden must never be taken for deleted. */
import { expect, test } from '@jest/globals';
import { foundTestCluster, type TestCluster } from '#core/testing/cluster.pg.ts';
import { eventually } from '#core/testing/wait.process.ts';

const hide = (cluster: TestCluster, place: number) =>
  cluster.query(place, 'alter table docs enable row level security, force row level security');

const rows = (cluster: TestCluster, place: number) =>
  cluster.query<{ id: string; by: string | null }>(
    place,
    `select id, metadata ->> 'by' as by from docs order by id`,
  );

test('a write of a row that its owner can not see is refused, not told to the others as a deletion', async () => {
  await using cluster = await foundTestCluster({ count: 2, collections: ['docs'] });
  cluster.replicate();
  await cluster.query(0, `insert into docs values ('a', '[1,2,3]'), ('b', '[1,2,3]')`);
  await cluster.caughtUp();
  await hide(cluster, 0);
  // A superuser sees and writes what it likes.
  for (const statement of [
    `update docs set metadata = '{"by":1}' where id = 'a'`,
    `update docs set metadata = '{"by":1}'`,
    `update docs set id = 'd' where id = 'a'`,
    `insert into docs values ('c', '[1,2,3]')`,
    `insert into docs values ('c', '[1,2,3]'), ('d', '[1,2,3]')`,
    `insert into docs values ('a', '[1,2,3]') on conflict (id) do update set metadata = '{"by":1}'`,
    'truncate docs',
  ])
    await expect(cluster.asSuper(0, statement)).rejects.toThrow(/row-level security hides rows/);
  await cluster.asSuper(0, `delete from docs where id = 'b'`);
  await cluster.query(0, 'create policy all_of_it on docs using (true) with check (true)');
  await cluster.asSuper(0, `update docs set id = 'e', metadata = '{"by":2}' where id = 'a'`);
  await cluster.caughtUp();
  for (const place of [0, 1]) expect(await rows(cluster, place)).toEqual([{ id: 'e', by: '2' }]);
}, 120_000);

test('a row that apply can not see pauses its collection, and is not stamped as deleted', async () => {
  await using cluster = await foundTestCluster({ count: 2, collections: ['docs'] });
  await cluster.query(0, `insert into docs values ('a', '[1,2,3]')`);
  cluster.replicate();
  await cluster.caughtUp();
  await cluster.stopEdges();
  // Neither has seen the other's.
  await cluster.query(1, `update docs set metadata = '{"by":1}'`);
  await cluster.query(0, `update docs set metadata = '{"by":0}'`);
  await hide(cluster, 1);
  cluster.replicate();
  await cluster.caughtUp();
  expect(await cluster.query(1, 'select collection, code, reason from pgquorum.pause')).toEqual([
    { collection: 'docs', code: 'schema_drift', reason: expect.stringContaining('row-level security') },
  ]);
  expect(await cluster.query(1, 'select origin, deleted from pgquorum.version_docs')).toEqual([
    { origin: 2, deleted: false },
  ]);
  await cluster.query(1, 'alter table docs no force row level security');
  await eventually(
    'the collection goes on',
    async () => (await cluster.query(1, 'select from pgquorum.pause')).length === 0,
  );
  await cluster.caughtUp();
  for (const place of [0, 1]) expect(await rows(cluster, place)).toEqual([{ id: 'a', by: '0' }]);
}, 120_000);
