/** Increments by request on three masters end in the masters' cells, and count once at every look, whatever is repeated where and when. */
import { randomUUID } from 'node:crypto';
import { expect, test } from '@jest/globals';
import type { ConflictRules } from '#core/collections/conflict-rules.ts';
import { installStatements } from '#core/collections/install.ts';
import { Folder } from '#core/folding/folder.pg.ts';
import { foundTestCluster, testDefinition, type TestCluster } from '#core/testing/cluster.pg.ts';
import { eventually } from '#core/testing/wait.process.ts';

const conflicts: ConflictRules = { strategy: 'crdt', crdt: { views: 'g-counter', stock: 'pn-counter' } };
const places = [0, 1, 2];

class Folders implements AsyncDisposable {
  readonly #all: Folder[];

  constructor(cluster: TestCluster) {
    this.#all = cluster.nodes.map((node) => new Folder({ node, nodes: cluster.nodes, pageKeys: 4 }));
  }

  /** One pass of each; keys that changed. */
  async pass(): Promise<number> {
    let folded = 0;
    for (const folder of this.#all) folded += (await folder.pass()).folded;
    return folded;
  }

  at = (place: number): Folder => this.#all[place]!;

  async [Symbol.asyncDispose](): Promise<void> {
    for (const folder of this.#all) await folder.close();
  }
}

async function openCluster(keys: number): Promise<TestCluster> {
  const cluster = await foundTestCluster({ count: 3 });
  await cluster.create('docs', { conflicts });
  await cluster.query(0, `insert into docs select 'k' || i, '[1,2,3]' from generate_series(0, $1) i`, [
    keys - 1,
  ]);
  cluster.replicate();
  await settled(cluster);
  return cluster;
}

const settled = async (cluster: TestCluster) => {
  for (let round = 0; round < 2; round += 1) await cluster.caughtUp();
};

const count = async (
  cluster: TestCluster,
  place: number,
  operation: { key: string; stock: number; request: string },
): Promise<boolean> =>
  (
    await cluster.query<{ repeated: boolean }>(
      place,
      `select repeated from pgquorum.crdt_change('docs', $1, jsonb_build_object('stock', jsonb_build_object(case when $2 < 0 then 'decrement' else 'increment' end, abs($2::int)), 'views', '{"increment": 1}'::jsonb), $3)`,
      [operation.key, operation.stock, operation.request],
    )
  )[0]!.repeated;

const valuesOf = async (cluster: TestCluster, place: number) =>
  Object.fromEntries(
    (
      await cluster.query<{ id: string; crdt: { stock: number; views: number } }>(
        place,
        `select id, pgquorum.crdt_get('docs', id) as crdt from docs`,
      )
    ).map((row) => [row.id, row.crdt]),
  );

const unfolded = async (cluster: TestCluster, place: number): Promise<number> =>
  (
    await cluster.query<{ n: number }>(
      place,
      `select count(*)::int as n from pgquorum.version_docs v, jsonb_each(v.crdt) l, jsonb_each(l.value -> 'k')`,
    )
  )[0]!.n;

const listed = async (cluster: TestCluster, place: number): Promise<number> =>
  (await cluster.query<{ n: number }>(place, 'select count(*)::int as n from pgquorum.unfolded'))[0]!.n;

const foldAll = (cluster: TestCluster, folders: Folders) =>
  eventually('all is folded everywhere', async () => {
    await folders.pass();
    const left = await Promise.all(
      places.flatMap((place) => [unfolded(cluster, place), listed(cluster, place)]),
    );
    return left.every((n) => n === 0);
  });

const expectAlike = async (cluster: TestCluster) => {
  await settled(cluster);
  const [first, ...others] = await cluster.states('docs');
  for (const other of others) expect(other).toEqual(first);
};

test('increments are folded while others are made and repeated, and each counts once at every look', async () => {
  await using cluster = await openCluster(6);
  await using folders = new Folders(cluster);
  const made: { key: string; stock: number; request: string }[] = [];
  const expected: Record<string, { stock: number; views: number }> = {};
  for (let at = 0; at < 6; at += 1) expected[`k${at}`] = { stock: 0, views: 0 };
  let folded = 0;
  for (let round = 0; round < 12; round += 1) {
    // Each request goes to one master, every third one to two at the same time; old ones come again anywhere.
    await Promise.all(
      places.map(async (place) => {
        const one = { key: `k${(round + place) % 6}`, stock: place === 1 ? -2 : 3, request: randomUUID() };
        made.push(one);
        expected[one.key] = {
          stock: expected[one.key]!.stock + one.stock,
          views: expected[one.key]!.views + 1,
        };
        const on = round % 3 === 0 ? [place, (place + 1) % 3] : [place];
        await Promise.all(on.map((where) => count(cluster, where, one)));
      }),
    );
    const old = made[(round * 5) % made.length]!;
    await Promise.all(places.map((place) => count(cluster, place, old)));
    folded += await folders.pass();
    if (round % 4 === 3) {
      await settled(cluster);
      for (const place of places) expect(await valuesOf(cluster, place)).toEqual(expected);
    }
  }
  // Under way, not only at the end.
  expect(folded).toBeGreaterThan(0);
  await foldAll(cluster, folders);
  for (const place of places) expect(await valuesOf(cluster, place)).toEqual(expected);
  for (const one of made)
    for (const place of places)
      expect([one, place, await count(cluster, place, one)]).toEqual([one, place, true]);
  await settled(cluster);
  for (const place of places) expect(await valuesOf(cluster, place)).toEqual(expected);
  await expectAlike(cluster);
}, 120_000);

test('nothing is folded while a master has not heard, or was not heard, and a request that it took meanwhile counts once', async () => {
  await using cluster = await openCluster(2);
  await using folders = new Folders(cluster);
  const both = { key: 'k0', stock: 5, request: randomUUID() };
  await cluster.stopEdges();
  await count(cluster, 0, both);
  // The first two hear each other; the third one is cut off, and takes the same request.
  cluster.edge(0, 1);
  cluster.edge(1, 0);
  await settled(cluster);
  for (let pass = 0; pass < 3; pass += 1) expect(await folders.pass()).toBe(0);
  expect(await count(cluster, 2, both)).toBe(false);
  // It hears of the others' but is not heard.
  cluster.edge(0, 2);
  cluster.edge(1, 2);
  await settled(cluster);
  for (let pass = 0; pass < 3; pass += 1) expect(await folders.pass()).toBe(0);
  expect(await unfolded(cluster, 0)).toBe(1);
  cluster.edge(2, 0);
  cluster.edge(2, 1);
  await foldAll(cluster, folders);
  for (const place of places) {
    expect(await count(cluster, place, both)).toBe(true);
    expect(await valuesOf(cluster, place)).toEqual({
      k0: { stock: 5, views: 1 },
      k1: { stock: 0, views: 0 },
    });
  }
  await expectAlike(cluster);
}, 120_000);

test('what a master has parked it has not seen, whatever its progress says', async () => {
  await using cluster = await openCluster(2);
  await using folders = new Folders(cluster);
  const one = { key: 'k0', stock: 1, request: randomUUID() };
  // The second master can take it, the third one can not.
  for (const place of [0, 1]) await cluster.query(place, 'alter table docs add lang text');
  await cluster.query(0, `update docs set lang = 'en' where id = 'k0'`);
  await count(cluster, 0, one);
  await settled(cluster);
  expect(await cluster.query(2, 'select from pgquorum.parked')).not.toEqual([]);
  for (let pass = 0; pass < 3; pass += 1) expect(await folders.pass()).toBe(0);
  expect(await count(cluster, 2, one)).toBe(false);
  await cluster.query(2, 'alter table docs add lang text');
  await foldAll(cluster, folders);
  await expectAlike(cluster);
  for (const place of places) expect((await valuesOf(cluster, place))['k0']).toEqual({ stock: 1, views: 1 });
}, 120_000);

test('a key that someone has locked is left alone, waited for shortly, and folded once it is free', async () => {
  await using cluster = await openCluster(2);
  await using folders = new Folders(cluster);
  for (const key of ['k0', 'k1']) await count(cluster, 0, { key, stock: 1, request: randomUUID() });
  await settled(cluster);
  const user = await cluster.client(0);
  await user.query('begin');
  await user.query(`select from docs where id = 'k0' for update`);
  expect((await folders.at(0).pass()).folded).toBe(1);
  expect(await unfolded(cluster, 0)).toBe(1);
  await user.query('commit');
  await foldAll(cluster, folders);
}, 120_000);

test('a deleted row is left alone; restored, it is folded and counts what it counted', async () => {
  await using cluster = await openCluster(1);
  await using folders = new Folders(cluster);
  await count(cluster, 0, { key: 'k0', stock: 4, request: randomUUID() });
  await settled(cluster);
  await cluster.query(1, 'delete from docs');
  await settled(cluster);
  for (let pass = 0; pass < 2; pass += 1) expect(await folders.pass()).toBe(0);
  const user = await cluster.client(2);
  await user.query('begin');
  await user.query(`set local pgquorum.revive = 'on'`);
  await user.query(`insert into docs values ('k0', '[1,2,3]')`);
  await user.query('commit');
  await settled(cluster);
  await foldAll(cluster, folders);
  for (const place of places) expect((await valuesOf(cluster, place))['k0']).toEqual({ stock: 4, views: 1 });
}, 120_000);

test('a sequence that has gone back gives folds a dot of their own all the same', async () => {
  await using cluster = await openCluster(1);
  await using folders = new Folders(cluster);
  await count(cluster, 0, { key: 'k0', stock: 4, request: randomUUID() });
  await settled(cluster);
  const number = cluster.nodes[0]!.number;
  const [before] = await cluster.query<{ own: number }>(
    0,
    `select (coalesce(seen, clock) ->> '${number}')::int as own from pgquorum.version_docs`,
  );
  await cluster.query(0, `select setval('pgquorum.dot', 1)`);
  expect((await folders.at(0).pass()).folded).toBe(1);
  await settled(cluster);
  for (const place of places) {
    const rows = await cluster.query<{ own: number }>(
      place,
      `select (coalesce(seen, clock) ->> '${number}')::int as own from pgquorum.version_docs`,
    );
    expect(rows[0]!.own).toBeGreaterThan(before!.own);
    expect(await unfolded(cluster, place)).toBe(0);
  }
  await expectAlike(cluster);
}, 120_000);

test('keys of several columns, of types other than text, are found', async () => {
  await using cluster = await foundTestCluster({ count: 2 });
  const key = [
    { name: 'day', type: 'date' },
    { name: 'raw', type: 'bytea' },
    { name: 'Part', type: 'integer' },
  ];
  const table = { collection: 'pairs', schema: 'public', table: 'pairs', key, shards: 8 };
  await cluster.everywhere(
    `create table public.pairs (day date, raw bytea, "Part" int, embedding vector(3), primary key (day, raw, "Part"))`,
  );
  for (const statement of installStatements(table, { ...testDefinition, conflicts }, 'pgquorum'))
    await cluster.everywhere(statement);
  await cluster.query(
    0,
    `insert into pairs select '2026-01-31', '\\x00ff5c', i, '[1,2,3]' from generate_series(-1, 1) i`,
  );
  cluster.replicate();
  for (const part of [-1, 0, 1])
    await cluster.query(0, `select pgquorum.crdt_change('pairs', $1, '{"stock": {"increment": 2}}', $2)`, [
      JSON.stringify(['2026-01-31', '\\x00ff5c', String(part)]),
      randomUUID(),
    ]);
  await settled(cluster);
  await using folders = new Folders(cluster);
  expect(await folders.pass()).toBe(3);
  await settled(cluster);
  const cells = `select v."Part" as part, l.value -> 'f' -> 'stock' -> 'p' -> '${cluster.nodes[0]!.number}' as cell from pgquorum.version_pairs v, jsonb_each(v.crdt) l order by 1`;
  for (const place of [0, 1])
    expect(await cluster.query(place, cells)).toEqual([-1, 0, 1].map((part) => ({ part, cell: [2, 0] })));
}, 120_000);
