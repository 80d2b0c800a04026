/** What the rules of a collection make of its triggers: lives of CRDT fields, ranks of embedding models, siblings that stay. */
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import type { ConflictRules } from '#core/collections/conflict-rules.ts';
import { changeCollection } from '#core/collections/catalog.pg.ts';
import { foundTestCluster, type TestCluster } from '#core/testing/cluster.pg.ts';

interface Row extends Record<string, unknown> {
  id: string;
  dot: string;
  rank: number;
  deleted: boolean;
  seen: Record<string, number> | null;
  clock: Record<string, number>;
  crdt: Record<string, unknown> | null;
}

describe.each([18, 16] as const)('rules on Postgres %i', (major) => {
  let cluster: TestCluster;
  let tables = 0;

  beforeAll(async () => {
    cluster = await foundTestCluster({ count: 1, major });
  }, 120_000);
  afterAll(() => cluster[Symbol.asyncDispose](), 60_000);

  async function collection(conflicts: ConflictRules) {
    const name = `docs${++tables}`;
    await cluster.create(name, { conflicts });
    const sql = (text: string, values?: unknown[]) => cluster.query(0, text.replaceAll('docs', name), values);
    const versions = () =>
      cluster.query<Row>(
        0,
        `select id, origin || '.' || counter as dot, rank, deleted, seen, clock, crdt from pgquorum.version_${name} order by id`,
      );
    const version = async (id: string) => (await versions()).find((row) => row.id === id)!;
    return { name, sql, versions, version };
  }

  const counted: ConflictRules = { strategy: 'crdt', crdt: { views: 'pn-counter', tags: 'or-set' } };

  test('an insert begins a life named after its dot, in bulk and alone; updates and deletes keep it', async () => {
    const { sql, version } = await collection(counted);
    await sql(`insert into docs values ('a', '[1,2,3]')`);
    const first = await version('a');
    expect(first.crdt).toEqual({ [first.dot]: {} });
    await sql(`insert into docs values ('b', '[1,2,3]'), ('c', '[1,2,3]')`);
    for (const id of ['b', 'c']) {
      const row = await version(id);
      expect(row.crdt).toEqual({ [row.dot]: {} });
    }
    await sql(`update docs set metadata = '{"n":1}' where id = 'a'`);
    await sql(`update docs set metadata = '{"n":1}'`);
    await sql(`delete from docs where id = 'a'`);
    const gone = await version('a');
    expect(gone.deleted).toBe(true);
    expect(gone.crdt).toEqual(first.crdt);
  });

  test('an insert over a tombstone begins anew, unless it brings the deleted row back', async () => {
    const { name, sql, version } = await collection(counted);
    await sql(`insert into docs values ('a', '[1,2,3]'), ('b', '[1,2,3]')`);
    for (const id of ['a', 'b']) await sql(`select pgquorum.counter_add('docs', '${id}', 'views', 3)`);
    const before = await version('b');
    await sql('delete from docs');
    await sql(`insert into docs values ('a', '[1,2,3]')`);
    const again = await version('a');
    expect(again.crdt).toEqual({ [again.dot]: {} });
    const client = await cluster.client(0);
    await client.query('begin');
    await client.query(`set local pgquorum.revive = 'on'`);
    await client.query(`insert into ${name} values ('b', '[1,2,3]')`);
    await client.query('commit');
    expect((await version('b')).crdt).toEqual(before.crdt);
    expect(await sql(`select pgquorum.crdt_get('docs', 'b') ->> 'views' as views`)).toEqual([{ views: '3' }]);
  });

  test('a write over an operation covers its dot, and leaves nothing seen beyond its clock', async () => {
    const { sql, version } = await collection(counted);
    await sql(`insert into docs values ('a', '[1,2,3]')`);
    await sql(`select pgquorum.counter_add('docs', 'a', 'views', 1)`);
    const operated = await version('a');
    expect(operated.seen![1]).toBeGreaterThan(operated.clock[1]!);
    await sql(`update docs set metadata = '{"n":1}'`);
    const written = await version('a');
    expect(written.seen).toBeNull();
    expect(written.clock[1]).toBeGreaterThan(operated.seen![1]!);
    expect(written.crdt).toEqual(operated.crdt);
  });

  test('a sequence that went back names a new life after the dot that is drawn anew', async () => {
    const { sql, version } = await collection(counted);
    await sql(
      `insert into pgquorum.version_docs (id, rank, epoch, hlc, origin, counter, clock, deleted, applied, shard, crdt) values ('a', 0, 0, 1, 1, 1000000, '{"1":1000000}', true, true, 0, '{"1.9":{}}')`,
    );
    await sql(`insert into docs values ('a', '[1,2,3]'), ('fresh', '[1,2,3]')`);
    for (const id of ['a', 'fresh']) {
      const row = await version(id);
      expect(Number(row.dot.slice(2))).toBeGreaterThan(1_000_000);
      expect(row.crdt).toEqual({ [row.dot]: {} });
    }
  });

  test('a version has the rank of the model that its write names; the next write inherits it, and none may lower it', async () => {
    const { name, sql, version } = await collection({ strategy: 'lww', models: ['small', 'large'] });
    const client = await cluster.client(0);
    const withModel = async (model: string, statement: string) => {
      await client.query('begin');
      await client.query(`select set_config('pgquorum.model', $1, true)`, [model]);
      try {
        await client.query(statement.replaceAll('docs', name));
        await client.query('commit');
      } catch (cause) {
        await client.query('rollback');
        throw cause;
      }
    };
    const upsert = `insert into docs values ('a', '[1,2,3]') on conflict (id) do update set embedding = excluded.embedding`;
    await sql(upsert);
    expect((await version('a')).rank).toBe(0);
    await withModel('large', upsert);
    expect((await version('a')).rank).toBe(2);
    const before = await version('a');
    await expect(withModel('small', upsert)).rejects.toMatchObject({ code: 'PQ011' });
    await expect(
      withModel(
        'small',
        `insert into docs values ('b', '[1,2,3]'), ('a', '[1,2,3]') on conflict (id) do update set embedding = excluded.embedding`,
      ),
    ).rejects.toMatchObject({ code: 'PQ011' });
    await expect(withModel('tiny', upsert)).rejects.toMatchObject({ code: 'PQ010' });
    expect(await version('a')).toEqual(before);
    await sql(`update docs set metadata = '{"n":1}'`);
    expect((await version('a')).rank).toBe(2);
    await withModel('small', `delete from docs where id = 'a'`);
    expect(await version('a')).toMatchObject({ rank: 2, deleted: true });
    await expect(withModel('small', upsert)).rejects.toMatchObject({ code: 'PQ011' });
    await sql(upsert);
    expect(await version('a')).toMatchObject({ rank: 2, deleted: false });
    await withModel('small', `insert into docs values ('c', '[1,2,3]'), ('d', '[1,2,3]')`);
    for (const id of ['c', 'd']) expect((await version(id)).rank).toBe(1);
  });

  test('a change of the rules takes hold of the triggers with its commit', async () => {
    const { name, sql, version } = await collection({ strategy: 'lww' });
    await sql(`insert into docs values ('a', '[1,2,3]')`);
    await changeCollection({
      nodes: cluster.nodes.map((node) => node.address),
      name,
      change: (before) => ({ ...before, conflicts: { ...counted, models: ['small'] } }),
    });
    await sql(`insert into docs values ('b', '[1,2,3]')`);
    expect((await version('a')).crdt).toBeNull();
    const row = await version('b');
    expect(row.crdt).toEqual({ [row.dot]: {} });
    await sql(`select pgquorum.counter_add('docs', 'a', 'views', 2)`);
    expect(await sql(`select pgquorum.crdt_get('docs', 'a') ->> 'views' as views`)).toEqual([{ views: '2' }]);
  });
});
