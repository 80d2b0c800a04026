/** Apply beside users' own statements: it gives way, and never takes one moment's row with another moment's version. */
import { expect, test } from '@jest/globals';
import type pg from 'pg';
import { foundTestCluster, type TestCluster } from '#core/testing/cluster.pg.ts';
import { eventually } from '#core/testing/wait.process.ts';

const waiting = async (cluster: TestCluster, place: number, application: string): Promise<boolean> =>
  (
    await cluster.query(
      place,
      `select from pg_stat_activity where application_name like $1 and wait_event_type = 'Lock' and datname = current_database()`,
      [application],
    )
  ).length > 0;

const applyWaits = (cluster: TestCluster, place: number) =>
  eventually('apply waits for a lock', () => waiting(cluster, place, 'pgquorum apply%'), { everyMs: 2 });

const expectAlike = async (cluster: TestCluster, collection = 'docs') => {
  const [first, ...others] = await cluster.states(collection);
  for (const other of others) expect(other).toEqual(first);
  return first!;
};

test('a user deletes and inserts keys again in one transaction while apply waits for their rows', async () => {
  await using cluster = await foundTestCluster({ count: 2, collections: ['docs'] });
  cluster.replicate({ lanes: 1 });
  await cluster.query(
    0,
    `insert into docs values ('updated', '[1,2,3]', '{"by":"first"}'), ('deleted', '[1,2,3]', '{"by":"first"}')`,
  );
  await cluster.caughtUp();
  const user = await cluster.client(1);
  await user.query(
    `begin; delete from docs; insert into docs values ('updated', '[3,2,1]', '{"by":"user"}'), ('deleted', '[3,2,1]', '{"by":"user"}')`,
  );
  // Apply's row lock returns nothing for them, and its read of the versions, a statement later, finds them alive.
  await cluster.query(
    0,
    `begin; update docs set metadata = '{"by":"remote"}' where id = 'updated'; delete from docs where id = 'deleted'; commit`,
  );
  await applyWaits(cluster, 1);
  await user.query('commit');
  await cluster.caughtUp();
  const lines = await expectAlike(cluster);
  expect(lines.filter((line) => line.startsWith('row')).map((line) => line.slice(0, 13))).toEqual([
    'row (updated,',
  ]);
  expect(lines.filter((line) => line.startsWith('conflict'))).toHaveLength(2);
}, 120_000);

test('a user who has inserted a row and is on the way to its tombstone never meets apply coming the other way', async () => {
  await using cluster = await foundTestCluster({ count: 2, collections: ['docs'] });
  await cluster.query(0, `insert into docs values ('k', '[1,2,3]')`);
  cluster.replicate();
  await cluster.caughtUp();
  await cluster.query(0, `delete from docs`);
  await cluster.caughtUp();
  // Fires between the row and its version, for this user only, who also looks for deadlocks long before apply does.
  await cluster.query(
    1,
    `create function public.dawdle() returns trigger language plpgsql as $$ begin perform pg_sleep(0.7); return null; end $$`,
  );
  await cluster.query(
    1,
    `create trigger dawdle after insert on docs for each row when (current_setting('application_name') = 'a slow user') execute function public.dawdle()`,
  );
  const user = await cluster.client(1, {
    url: cluster.masters[1]!.superUrl,
    config: { application_name: 'a slow user' },
  });
  await user.query(`set deadlock_timeout = '5ms'`);
  const inserting = user.query(`insert into docs values ('k', '[9,9,9]', '{"by":"user"}')`);
  await eventually(
    'the user has the row',
    async () =>
      (
        await cluster.asSuper(
          1,
          `select from pg_stat_activity where application_name = 'a slow user' and wait_event = 'PgSleep'`,
        )
      ).length > 0,
    { everyMs: 5 },
  );
  await cluster.query(0, `insert into docs values ('k', '[1,1,1]', '{"by":"remote"}')`);
  await applyWaits(cluster, 1);
  await inserting;
  await cluster.caughtUp();
  await eventually(
    'nothing is parked',
    async () => (await cluster.query(1, 'select from pgquorum.parked')).length === 0,
  );
  await expectAlike(cluster);
}, 120_000);

test('a user inserts a key whose tombstone apply replaces: the user never meets a deadlock', async () => {
  await using cluster = await foundTestCluster({ count: 2, collections: ['docs'] });
  await cluster.query(0, `insert into docs values ('k', '[1,2,3]'), ('a', '[1,2,3]'), ('z', '[1,2,3]')`);
  cluster.replicate();
  await cluster.caughtUp();
  const users = await Promise.all([0, 1].map(() => cluster.client(1)));
  for (let round = 0; round < 6; round += 1) {
    await cluster.query(0, 'delete from docs');
    await cluster.caughtUp();
    const [one] = users as [pg.Client, pg.Client];
    // The user has the row of k, not yet its version's neighbours; apply wants all three.
    await one.query(`begin; insert into docs values ('k', '[9,9,9]', '{"round":${round}}')`);
    await cluster.query(0, `insert into docs values ('a', '[1,1,1]'), ('k', '[1,1,1]'), ('z', '[1,1,1]')`);
    await applyWaits(cluster, 1);
    await one.query(
      `insert into docs values ('a', '[9,9,9]'), ('z', '[9,9,9]') on conflict (id) do update set embedding = excluded.embedding; commit`,
    );
    await cluster.caughtUp();
    await expectAlike(cluster);
  }
}, 120_000);

test('users who write in any order while apply writes the same keys only ever wait', async () => {
  await using cluster = await foundTestCluster({ count: 2, collections: ['docs'] });
  cluster.replicate({ lanes: 3, batchSize: 50 });
  const keys = Array.from({ length: 12 }, (_, at) => `k${at}`);
  const ends = Date.now() + 4000;
  let round = 0;
  const user = async (place: number, seed: number) => {
    const client = await cluster.client(place);
    for (let n = seed; Date.now() < ends; n += 7) {
      round += 1;
      const key = keys[n % keys.length]!;
      // One key a transaction: what users do to each other is their own affair.
      if (n % 5 === 0) await client.query('delete from docs where id = $1', [key]);
      else if (n % 5 === 1)
        await client
          .query(`with d as (delete from docs where id = $1) select`, [key])
          .then(() => client.query(`insert into docs values ($1, '[1,2,3]') on conflict do nothing`, [key]));
      else
        await client.query(
          `insert into docs values ($1, '[1,2,3]', $2) on conflict (id) do update set metadata = excluded.metadata`,
          [key, JSON.stringify({ place, n })],
        );
    }
  };
  await Promise.all([0, 1].flatMap((place) => [user(place, place), user(place, place + 3)]));
  await cluster.caughtUp();
  expect(round).toBeGreaterThan(100);
  await eventually('nothing is parked', async () =>
    (await Promise.all([0, 1].map((place) => cluster.query(place, 'select from pgquorum.parked')))).every(
      (rows) => rows.length === 0,
    ),
  );
  await expectAlike(cluster);
  for (const edge of cluster.edges) expect(edge.failures).toEqual([]);
}, 120_000);

test('a row that a user locks for long holds up neither its lane nor its batch, and its change arrives afterwards', async () => {
  await using cluster = await foundTestCluster({ count: 2, collections: ['docs'] });
  cluster.replicate({ lanes: 1 });
  await cluster.query(0, `insert into docs select 'k' || i, '[1,2,3]' from generate_series(0, 20) i`);
  await cluster.caughtUp();
  const user = await cluster.client(1);
  await user.query(`begin; select from docs where id = 'k7' for update`);
  await cluster.query(0, `update docs set metadata = '{"n":1}'`);
  await eventually(
    'the others have arrived',
    async () => (await cluster.query(1, `select from docs where metadata ->> 'n' = '1'`)).length === 20,
  );
  await cluster.caughtUp(); // the lane has gone on: the locked key's change is kept aside
  expect(await cluster.query(1, 'select key from pgquorum.parked')).toEqual([{ key: 'k7' }]);
  await cluster.query(0, `insert into docs values ('later', '[1,2,3]')`);
  await cluster.caughtUp();
  await user.query('commit');
  await eventually(
    'it arrives',
    async () =>
      (await cluster.query(1, `select from docs where id = 'k7' and metadata ->> 'n' = '1'`)).length === 1,
  );
  await eventually(
    'nothing is parked',
    async () => (await cluster.query(1, 'select from pgquorum.parked')).length === 0,
  );
  await expectAlike(cluster);
  expect(await cluster.query(1, 'select from pgquorum.dead_letter')).toEqual([]);
}, 120_000);

test('a row without a version is stamped before it is compared, reported, and told to the others', async () => {
  await using cluster = await foundTestCluster({ count: 2, collections: ['docs'] });
  const behind = async (text: string) => {
    const client = await cluster.client(1);
    await client.query(`set pgquorum.apply = 'on'; ${text}`); // our own role's switch stands for any way around the triggers
    await client.end();
  };
  await behind(`insert into docs values ('same', '[7,7,7]', '{"behind":1}')`);
  cluster.replicate();
  await cluster.query(0, `insert into docs values ('same', '[1,2,3]', '{"by":"remote"}')`);
  await cluster.caughtUp();
  await cluster.caughtUp();
  const rows = await expectAlikeRows(cluster, `id = 'same'`);
  expect(rows).toEqual([{ id: 'same', metadata: { by: 'remote' } }]); // any real write beats a row of unknown age
  expect(
    cluster.edges.some((edge) => edge.lines.some((line) => line.msg.includes('without a version'))),
  ).toBe(true);
  for (const place of [0, 1]) {
    const records = await cluster.query(
      place,
      `select key, loser_origin, loser_hlc::text as hlc, loser_row ->> 'metadata' as metadata, state from pgquorum.conflict`,
    );
    expect(records).toEqual([
      { key: 'same', loser_origin: 2, hlc: '0', metadata: '{"behind": 1}', state: 'open' },
    ]);
  }
}, 120_000);

test('a row put over a tombstone, or taken away, behind the triggers does not stop its key', async () => {
  await using cluster = await foundTestCluster({ count: 2, collections: ['docs'] });
  cluster.replicate();
  await cluster.query(
    0,
    `insert into docs values ('back', '[1,2,3]'), ('both', '[1,2,3]'), ('gone', '[1,2,3]'), ('lost', '[1,2,3]')`,
  );
  await cluster.query(0, `delete from docs where id = 'back'`);
  await cluster.caughtUp();
  await cluster.stopEdges();
  const client = await cluster.client(1);
  await client.query(
    `set pgquorum.apply = 'on'; insert into docs values ('back', '[7,7,7]', '{"behind":1}'); delete from docs where id in ('both', 'gone', 'lost')`,
  );
  await client.end();
  // A real write on either side: that of the other one has not seen it.
  await cluster.query(
    1,
    `insert into docs values ('both', '[2,2,2]', '{"n":2}'); delete from docs where id = 'both'`,
  );
  await cluster.asSuper(
    1,
    `set session_replication_role = replica; alter table docs disable trigger pgquorum_insert; insert into docs values ('both', '[7,7,7]', '{"behind":2}'); alter table docs enable always trigger pgquorum_insert`,
  );
  await cluster.query(0, `insert into docs values ('back', '[1,1,1]', '{"n":1}')`);
  await cluster.query(0, `update docs set metadata = '{"n":1}' where id in ('gone', 'both')`);
  await cluster.query(0, `delete from docs where id = 'lost'`);
  cluster.replicate();
  await eventually('the masters agree', async () => {
    await cluster.caughtUp();
    const [one, two] = await cluster.states('docs');
    return JSON.stringify(one) === JSON.stringify(two);
  });
  const rows = await expectAlikeRows(cluster, 'true');
  expect(rows.filter((row) => row.id !== 'both')).toEqual([
    { id: 'back', metadata: { n: 1 } },
    { id: 'gone', metadata: { n: 1 } },
  ]);
  const records = await cluster.query(
    0,
    `select key, loser_row ->> 'metadata' as metadata from pgquorum.conflict where state = 'open' and key <> 'both'`,
  );
  expect(records).toEqual([{ key: 'back', metadata: '{"behind": 1}' }]);
  expect(
    await cluster.query(0, `select from pgquorum.conflict where state = 'open' and key = 'both'`),
  ).toHaveLength(1);
  const told = cluster.edges
    .flatMap((edge) => edge.lines.map((line) => line.msg))
    .filter((line) => line.includes('behind the triggers'));
  expect(told.map((line) => line.split(':')[0])).toEqual(
    expect.arrayContaining(['rows came or went behind the triggers', 'rows were gone behind the triggers']),
  );
  await eventually(
    'nothing is parked',
    async () => (await cluster.query(1, 'select from pgquorum.parked')).length === 0,
  );
}, 120_000);

async function expectAlikeRows(cluster: TestCluster, where: string): Promise<Record<string, unknown>[]> {
  const [one, two] = await Promise.all(
    [0, 1].map((place) => cluster.query(place, `select id, metadata from docs where ${where} order by id`)),
  );
  expect(two).toEqual(one);
  return one!;
}
