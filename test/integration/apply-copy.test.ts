/** Many new rows at once, which apply copies in: what copying could get wrong, and what it can not do. */
import { expect, test } from '@jest/globals';
import { foundTestCluster, type TestCluster } from '#core/testing/cluster.pg.ts';
import { eventually } from '#core/testing/wait.process.ts';

const expectAlike = async (cluster: TestCluster) => {
  const [first, ...others] = await cluster.states('docs');
  for (const other of others) expect(other).toEqual(first);
};

const settled = async (cluster: TestCluster) => {
  for (let round = 0; round < 2; round += 1) await cluster.caughtUp();
};

const insertMany = (cluster: TestCluster, place: number, count: number) =>
  cluster.query(
    place,
    `insert into docs select 'k' || i, array_fill(i::real, array[3])::vector, jsonb_build_object('by', ${place}, 'u', i) from generate_series(1, $1) i`,
    [count],
  );

/** What the other master's applier waits for with, once it waits. */
const waitingApplier = (cluster: TestCluster, place: number) =>
  eventually('the applier waits for a lock', async () => {
    const found = await cluster.query<{ query: string }>(
      place,
      `select query from pg_stat_activity where application_name like 'pgquorum apply%' and wait_event_type = 'Lock'`,
    );
    return found[0]?.query;
  });

test('keys and values with signs that mean something to copy arrive as they are', async () => {
  await using cluster = await foundTestCluster({ count: 2, collections: ['docs'] });
  const signs = [
    '\t',
    '\n',
    '\r',
    '\\',
    '\\N',
    '\\.',
    '\\t',
    '"',
    "'",
    ',',
    '{}',
    ' ',
    'ü',
    '日本',
    '😀',
    '\u0001',
  ];
  const keys = signs.flatMap((sign) => [sign, `${sign}x`, `x${sign}y`]);
  await cluster.query(
    0,
    `insert into docs select k, '[1,2,3]', jsonb_build_object('key', k) from unnest($1::text[]) k`,
    [keys],
  );
  await cluster.query(0, `insert into docs select 'null' || i, null from generate_series(1, 50) i`);
  cluster.replicate();
  await settled(cluster);
  await expectAlike(cluster);
  const arrived = await cluster.query<{ id: string; key: string }>(
    1,
    `select id, metadata ->> 'key' as key from docs where embedding is not null order by id collate "C"`,
  );
  expect(arrived.map(({ id }) => id).sort()).toEqual([...keys].sort());
  for (const { id, key } of arrived) expect(key).toBe(id);
}, 120_000);

test('a row that a user inserts while many are copied in becomes a conflict, and nobody loses a row', async () => {
  await using cluster = await foundTestCluster({ count: 2, collections: ['docs'] });
  const user = await cluster.client(1);
  await user.query(`begin; insert into docs values ('k7', '[9,9,9]', '{"by": "user"}')`);
  await insertMany(cluster, 0, 200);
  cluster.replicate();
  expect(await waitingApplier(cluster, 1)).toMatch(/^copy "public"."docs"/);
  await user.query('commit');
  await settled(cluster);
  await expectAlike(cluster);
  for (const place of [0, 1]) {
    expect(await cluster.query(place, 'select count(*)::int as rows from docs')).toEqual([{ rows: 200 }]);
    expect(
      await cluster.query(place, `select key, kind, state from pgquorum.conflict where state = 'open'`),
    ).toEqual([{ key: 'k7', kind: 'insert-insert', state: 'open' }]);
  }
}, 120_000);

test('of many new rows only that one waits which a unique index does not let in', async () => {
  await using cluster = await foundTestCluster({ count: 2, collections: ['docs'] });
  await cluster.query(1, `create unique index on docs ((metadata ->> 'u'))`);
  await cluster.query(1, `insert into docs values ('mine', '[1,1,1]', '{"u": 7}')`);
  await insertMany(cluster, 0, 100);
  cluster.replicate();
  await eventually('all but one', async () => {
    const found = await cluster.query<{ rows: number }>(1, 'select count(*)::int as rows from docs');
    return found[0]!.rows === 100;
  });
  expect(await cluster.query(1, `select id from docs where id = 'k7'`)).toEqual([]);
  await cluster.query(1, `delete from docs where id = 'mine'`);
  await eventually('that one too', async () => {
    const found = await cluster.query<{ rows: number }>(1, 'select count(*)::int as rows from docs');
    return found[0]!.rows === 100;
  });
  await settled(cluster);
  await expectAlike(cluster);
}, 120_000);

test('a table that can not be copied into is written by other statements', async () => {
  await using cluster = await foundTestCluster({ count: 2, collections: ['docs'] });
  cluster.replicate();
  await insertMany(cluster, 0, 50);
  await settled(cluster);
  // The appliers believe for a while what they know of the table.
  await cluster.query(
    1,
    'alter table docs enable row level security, force row level security; create policy all_of_it on docs using (true) with check (true)',
  );
  await cluster.query(0, `insert into docs select 'more' || i, '[1,1,1]' from generate_series(1, 50) i`);
  await settled(cluster);
  await expectAlike(cluster);
  expect(await cluster.query(1, 'select count(*)::int as rows from docs')).toEqual([{ rows: 100 }]);
}, 120_000);
