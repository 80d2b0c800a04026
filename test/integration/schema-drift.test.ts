/**
 * A column that differs between masters pauses that collection's flow to those that can not take it, says what differs, keeps the changes, and goes on by
 * itself when they are the same, while all else goes on.
 */
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { cases } from './schema-drift/cases.ts';
import { DriftingCluster } from './schema-drift/drifting-cluster.ts';

let cluster: DriftingCluster;

beforeAll(async () => {
  cluster = await DriftingCluster.start('wal');
}, 180_000);

afterAll(() => cluster[Symbol.asyncDispose]());

const collectionOf = (name: string): string =>
  name.replaceAll(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);

test.each(Object.keys(cases))(
  'a column that is %s',
  async (name) => {
    await cluster.create(collectionOf(name));
    await cases[name]!(cluster, collectionOf(name));
  },
  60_000,
);

test('changes of a table as it was, which arrive when all masters have altered it, are replaced by what their origin has now', async () => {
  await cluster.create('late');
  await cluster.everywhere('alter table late add n integer, add gone text');
  await cluster.sql(0, `insert into late (id, n, gone) values ('a', 1, 'x'), ('b', 2, 'y'), ('c', 3, 'z')`);
  await cluster.settles('late');
  await cluster.stop();
  await cluster.sql(0, `update late set n = n + 10, gone = 'w'`);
  await cluster.sql(0, `delete from late where id = 'c'`);
  await cluster.everywhere('alter table late alter n type text using n::text, drop gone');
  await cluster.sql(0, `insert into late (id, n) values ('d', 'new')`);
  await cluster.replicate();
  expect(await cluster.settles('late')).toMatchObject([
    { id: 'a', n: '11' },
    { id: 'b', n: '12' },
    { id: 'd', n: 'new' },
  ]);
}, 120_000);

test('through Kafka it is the same', async () => {
  await using kafka = await DriftingCluster.start('kafka');
  for (const name of ['added', 'retyped']) {
    await kafka.create(collectionOf(name));
    await cases[name]!(kafka, collectionOf(name));
  }
}, 180_000);
