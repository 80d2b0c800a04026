/** CRDT fields between masters: operations of SQL clients through the WAL, whatever happens to the rows meanwhile. */
import { expect, test } from '@jest/globals';
import type { ConflictRules } from '#core/collections/conflict-rules.ts';
import { foundTestCluster, type TestCluster } from '#core/testing/cluster.pg.ts';

const conflicts: ConflictRules = {
  strategy: 'crdt',
  crdt: { views: 'g-counter', stock: 'pn-counter', title: 'lww-register', tags: 'or-set' },
};

async function openCluster(count: number): Promise<TestCluster> {
  const cluster = await foundTestCluster({ count });
  await cluster.create('docs', { conflicts });
  return cluster;
}

const settled = async (cluster: TestCluster) => {
  for (let round = 0; round < 2; round += 1) await cluster.caughtUp();
};

const values = async (cluster: TestCluster, place: number, key: string) =>
  (await cluster.query<{ crdt: unknown }>(place, `select pgquorum.crdt_get('docs', $1) as crdt`, [key]))[0]!
    .crdt;

const openRecords = (cluster: TestCluster, place: number) =>
  cluster.query<{ id: string; key: string; kind: string; loser: string; row: Record<string, string> | null }>(
    place,
    `select id, key, kind, loser_origin || '.' || loser_counter as loser, loser_row as row from pgquorum.conflict where state = 'open' order by key, loser_origin, loser_counter`,
  );

const expectAlike = async (cluster: TestCluster) => {
  const [first, ...others] = await cluster.states('docs');
  for (const other of others) expect(other).toEqual(first);
};

test('operations on three masters at once add up, without a conflict', async () => {
  await using cluster = await openCluster(3);
  await cluster.query(0, `insert into docs select 'k' || i, '[1,2,3]' from generate_series(1, 3) i`);
  cluster.replicate();
  await settled(cluster);
  await cluster.stopEdges();
  for (const place of [0, 1, 2]) {
    await cluster.query(place, `select pgquorum.counter_add('docs', 'k1', 'views', $1)`, [place + 1]);
    await cluster.query(place, `select pgquorum.counter_add('docs', 'k1', 'stock', $1)`, [5 - 4 * place]);
    await cluster.query(place, `select pgquorum.set_add('docs', 'k1', 'tags', $1)`, [`t${place}`]);
    await cluster.query(place, `select pgquorum.set_add('docs', 'k1', 'tags', 'all')`);
    await cluster.query(place, `select pgquorum.register_set('docs', 'k1', 'title', to_jsonb($1::int))`, [
      place,
    ]);
  }
  // The row itself is written by one of them: no operation competes with that.
  await cluster.query(1, `update docs set metadata = '{"by":1}' where id = 'k1'`);
  cluster.replicate();
  await settled(cluster);
  for (const place of [0, 1, 2]) {
    expect(await values(cluster, place, 'k1')).toEqual({
      views: 6,
      stock: 3,
      title: 2,
      tags: ['all', 't0', 't1', 't2'],
    });
    expect(await cluster.query(place, `select metadata from docs where id = 'k1'`)).toEqual([
      { metadata: { by: 1 } },
    ]);
    expect(await openRecords(cluster, place)).toEqual([]);
  }
  await expectAlike(cluster);
  await cluster.query(2, `select pgquorum.set_remove('docs', 'k1', 'tags', 'all')`);
  await settled(cluster);
  for (const place of [0, 1, 2])
    expect(await values(cluster, place, 'k1')).toMatchObject({ tags: ['t0', 't1', 't2'] });
  await expectAlike(cluster);
}, 120_000);

test('operations on a row that another master deleted leave a record of it everywhere, and count again once it is restored', async () => {
  await using cluster = await openCluster(3);
  await cluster.query(0, `insert into docs values ('a', '[1,2,3]', '{"n":1}'), ('b', '[1,2,3]', '{"n":1}')`);
  await cluster.query(0, `select pgquorum.counter_add('docs', 'a', 'views', 1)`);
  cluster.replicate();
  await settled(cluster);
  await cluster.stopEdges();
  await cluster.query(0, `select pgquorum.counter_add('docs', 'a', 'views', 10)`);
  await cluster.query(1, `delete from docs where id = 'a'`);
  // Deleted and inserted again: another life, in which the operation does not count.
  await cluster.query(0, `select pgquorum.counter_add('docs', 'b', 'views', 10)`);
  await cluster.query(2, `delete from docs where id = 'b'`);
  await cluster.query(2, `insert into docs values ('b', '[3,2,1]')`);
  cluster.replicate();
  await settled(cluster);
  const records = await openRecords(cluster, 0);
  expect(records.map(({ key, kind }) => [key, kind])).toEqual([
    ['a', 'delete-update'],
    ['b', 'delete-update'],
  ]);
  expect(records[0]!.row).toEqual({ id: 'a', embedding: '[1,2,3]', metadata: '{"n": 1}' });
  for (const place of [1, 2]) expect(await openRecords(cluster, place)).toEqual(records);
  for (const place of [0, 1, 2]) {
    expect(await values(cluster, place, 'a')).toBeNull();
    expect(await values(cluster, place, 'b')).toMatchObject({ views: 0 });
  }
  await expectAlike(cluster);
  const client = await cluster.client(2);
  await client.query('begin');
  await client.query(`set local pgquorum.revive = 'on'`);
  await client.query(`insert into docs values ('a', '[1,2,3]', '{"n":1}')`);
  await client.query('commit');
  await settled(cluster);
  for (const place of [0, 1, 2]) {
    expect(await values(cluster, place, 'a')).toMatchObject({ views: 11 });
    expect((await openRecords(cluster, place)).map(({ key }) => key)).toEqual(['b']);
  }
  await expectAlike(cluster);
}, 120_000);

test('a plain update keeps the fields, in the transaction of an operation and beside it', async () => {
  await using cluster = await openCluster(2);
  cluster.replicate();
  const client = await cluster.client(0);
  await client.query(`insert into docs values ('a', '[1,2,3]')`);
  await client.query('begin');
  await client.query(`select pgquorum.counter_add('docs', 'a', 'stock', 3)`);
  await client.query(`update docs set metadata = '{"n":1}' where id = 'a'`);
  await client.query(`select pgquorum.counter_add('docs', 'a', 'stock', -1)`);
  await client.query('commit');
  await client.query(`update docs set embedding = '[9,9,9]' where id = 'a'`);
  await settled(cluster);
  for (const place of [0, 1]) {
    expect(await values(cluster, place, 'a')).toMatchObject({ stock: 2 });
    expect(await cluster.query(place, `select embedding::text, metadata from docs`)).toEqual([
      { embedding: '[9,9,9]', metadata: { n: 1 } },
    ]);
  }
  await expectAlike(cluster);
}, 120_000);

test('operations of many clients on all masters at once, with rows written, deleted and inserted between them, end alike', async () => {
  await using cluster = await openCluster(3);
  await cluster.query(0, `insert into docs select 'k' || i, '[1,2,3]' from generate_series(0, 9) i`);
  cluster.replicate();
  await settled(cluster);
  let counted = 0;
  await Promise.all(
    [0, 1, 2].flatMap((place) =>
      [0, 1].map(async (worker) => {
        for (let at = 0; at < 60; at += 1) {
          const key = `k${(at * 7 + worker) % 10}`;
          if (key !== 'k9' && at % 13 === 5) {
            await cluster.query(place, `delete from docs where id = $1`, [key]);
            await cluster.query(place, `insert into docs values ($1, '[1,2,3]') on conflict do nothing`, [
              key,
            ]);
          } else if (at % 5 === 2)
            await cluster.query(
              place,
              `update docs set metadata = jsonb_build_object('at', $2::int) where id = $1`,
              [key, at],
            );
          else
            try {
              await cluster.query(place, `select pgquorum.counter_add('docs', $1, 'stock', 1)`, [key]);
              if (key === 'k9') counted += 1;
            } catch (cause) {
              if (!/no row|does not exist|not found/.test((cause as Error).message)) throw cause;
            }
        }
      }),
    ),
  );
  await settled(cluster);
  await expectAlike(cluster);
  const [first, ...others] = await Promise.all([0, 1, 2].map((place) => openRecords(cluster, place)));
  const named = (records: typeof first) => records!.map(({ key, loser }) => [key, loser]);
  for (const other of others) expect(named(other)).toEqual(named(first));
  for (const place of [0, 1, 2]) expect(await values(cluster, place, 'k9')).toMatchObject({ stock: counted });
  expect(counted).toBeGreaterThan(10);
}, 120_000);

test('an operation that a dropped repeat of a request had seen is superseded on all masters, whatever came first', async () => {
  await using cluster = await openCluster(3);
  await cluster.query(0, `insert into docs values ('k', '[1,2,3]')`);
  cluster.replicate();
  await settled(cluster);
  await cluster.stopEdges();
  const retry = async (place: number) => {
    const client = await cluster.client(place);
    await client.query(
      `begin; set local pgquorum.request = '0190b2a4-0000-7000-8000-00000000beef'; update docs set metadata = '{"by":"request"}' where id = 'k'; commit`,
    );
  };
  const later = () => cluster.query(0, 'select pg_sleep(0.01)');
  // The second master's try has seen the increment; the first master's is greater and has not.
  await cluster.query(1, `select pgquorum.counter_add('docs', 'k', 'views', 1)`);
  await retry(1);
  await later();
  await retry(0);
  await later();
  await cluster.query(2, `delete from docs where id = 'k'`);
  // To the first master the try comes before the deletion that undoes the increment, and is dropped.
  cluster.edge(1, 0);
  await cluster.caughtUp();
  cluster.edge(2, 0);
  await cluster.caughtUp();
  await cluster.stopEdges();
  cluster.replicate();
  await settled(cluster);
  await expectAlike(cluster);
  for (const place of [0, 1, 2])
    expect((await openRecords(cluster, place)).map(({ kind, row }) => [kind, row?.metadata])).toEqual([
      ['delete-update', '{"by": "request"}'],
    ]);
}, 120_000);
