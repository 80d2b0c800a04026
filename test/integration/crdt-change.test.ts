/** Operations on CRDT fields by SQL clients: what they do to the key's version, and how they lock. */
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import type pg from 'pg';
import { installStatements } from '#core/collections/install.ts';
import { foundTestCluster, testDefinition, type TestCluster } from '#core/testing/cluster.pg.ts';
import { eventually } from '#core/testing/wait.process.ts';
import { valuesOf } from '#core/versioning/crdt/values.ts';
import type { CrdtFields } from '#core/versioning/crdt/field.ts';
import type { CrdtState } from '#core/versioning/crdt/state.ts';

const fields: CrdtFields = {
  likes: 'g-counter',
  stock: 'pn-counter',
  title: 'lww-register',
  tags: 'or-set',
};
const request = (n: number) => `0190b2a4-0000-7000-8000-00000000000${n}`;

interface Version {
  readonly hlc: string;
  readonly origin: number;
  readonly counter: string;
  readonly clock: Record<string, number>;
  readonly seen: Record<string, number> | null;
  readonly applied: boolean;
  readonly crdt: CrdtState;
}

describe.each([18, 16] as const)('on Postgres %i', (major) => {
  let cluster: TestCluster;
  let tables = 0;

  beforeAll(async () => {
    cluster = await foundTestCluster({ count: 1, major });
  }, 120_000);
  afterAll(() => cluster[Symbol.asyncDispose](), 60_000);

  const declare = (name: string) =>
    cluster.query(
      0,
      `update pgquorum.collection set definition = jsonb_set(definition, '{conflicts}', $2::jsonb) where name = $1`,
      [name, JSON.stringify({ strategy: 'crdt', crdt: fields })],
    );

  /** A collection of the test's own, with rows a and b. */
  async function collection(): Promise<string> {
    const name = `docs${++tables}`;
    await cluster.create(name);
    await declare(name);
    await cluster.query(0, `insert into ${name} values ('a', '[1,2,3]'), ('b', '[1,2,3]')`);
    return name;
  }

  const version = async (name: string, id = 'a'): Promise<Version> => {
    const [row] = await cluster.query<Version & Record<string, unknown>>(
      0,
      `select hlc::text, origin, counter::text, clock, seen, applied, crdt from pgquorum.version_${name} where id = $1`,
      [id],
    );
    return row!;
  };
  const one = async <T = Record<string, unknown>>(text: string, values: unknown[] = []): Promise<T> =>
    (await cluster.query(0, text, values))[0] as T;
  const change = (
    client: pg.Client,
    name: string,
    operations: unknown,
    id: string | null = null,
    key = 'a',
  ) =>
    client.query('select * from pgquorum.crdt_change($1, $2, $3::jsonb, $4)', [
      name,
      key,
      JSON.stringify(operations),
      id,
    ]);

  test('each function does its operation and returns the new value', async () => {
    const name = await collection();
    const value = async (call: string) => (await one<{ v: unknown }>(`select pgquorum.${call} as v`)).v;
    expect(await value(`counter_add('${name}', 'a', 'likes')`)).toBe('1');
    expect(await value(`counter_add('${name}', 'a', 'likes', 41)`)).toBe('42');
    expect(await value(`counter_add('${name}', 'a', 'stock', -5)`)).toBe('-5');
    expect(
      await value(`counter_add(collection => '${name}', key => 'a', field => 'stock', amount => 7)`),
    ).toBe('2');
    expect(await value(`register_set('${name}', 'a', 'title', '{"de": "Ü"}')`)).toEqual({ de: 'Ü' });
    expect(await value(`set_add('${name}', 'a', 'tags', 'red')`)).toEqual(['red']);
    expect(await value(`set_add('${name}', 'a', 'tags', 'blue')`)).toEqual(['blue', 'red']);
    expect(await value(`set_remove('${name}', 'a', 'tags', 'red')`)).toEqual(['blue']);
    const values = { likes: 42, stock: 2, title: { de: 'Ü' }, tags: ['blue'] };
    expect(await value(`crdt_get('${name}', 'a')`)).toEqual(values);
    expect(valuesOf((await version(name)).crdt, fields)).toEqual(values);
    expect(await value(`crdt_get('${name}', 'b')`)).toEqual({ likes: 0, stock: 0, title: null, tags: [] });
    expect(await value(`crdt_get('${name}', 'none')`)).toBe(null);
  });

  test('an operation takes a dot that is seen, and is no new version of the row', async () => {
    const name = await collection();
    const row = () => one(`select xmin::text, ctid::text from ${name} where id = 'a'`);
    const [before, rowBefore] = [await version(name), await row()];
    // As it is when replication wrote last.
    await cluster.query(
      0,
      `update pgquorum.version_${name} set applied = true, seen = clock || '{"2": 7}' where id = 'a'`,
    );
    const done = (await change(await cluster.client(0), name, { likes: { increment: 2 }, tags: { add: 5 } }))
      .rows[0] as Record<string, unknown>;
    const after = await version(name);
    expect(done).toMatchObject({
      origin: 1,
      repeated: false,
      crdt: { likes: 2, stock: 0, title: null, tags: [5] },
    });
    expect(Number(done['counter'])).toBeGreaterThan(Number(before.counter));
    expect(BigInt(done['hlc'] as string)).toBeGreaterThan(BigInt(before.hlc));
    expect(after).toEqual({
      ...before,
      seen: { ...before.clock, 2: 7, 1: Number(done['counter']) },
      applied: false,
      crdt: {
        '0.0': {
          ops: { 1: Number(done['counter']) },
          f: { likes: { g: { 1: 2 } }, tags: { s: { 5: { 1: Number(done['counter']) } } } },
        },
      },
    });
    expect(await row()).toEqual(rowBefore);
    // The next write of the row has seen the operation.
    await cluster.query(0, `update ${name} set metadata = '{}' where id = 'a'`);
    const next = await version(name);
    expect(next).toMatchObject({ clock: { 1: Number(next.counter), 2: 7 }, seen: null, crdt: after.crdt });
    expect(Number(next.counter)).toBeGreaterThan(Number(done['counter']));
  });

  test('a sequence that has gone back is set forward, beyond what the key has seen', async () => {
    const name = await collection();
    const last = Number((await one<{ v: string }>(`select last_value as v from pgquorum.dot`)).v);
    await cluster.query(
      0,
      `update pgquorum.version_${name} set seen = clock || '{"1": ${last + 500}}' where id = 'a'`,
    );
    const client = await cluster.client(0);
    const first = (await change(client, name, { likes: { increment: 1 } })).rows[0] as { counter: string };
    expect(Number(first.counter)).toBeGreaterThan(last + 500);
    const second = (await change(client, name, { likes: { increment: 1 } }, null, 'b')).rows[0] as {
      counter: string;
    };
    expect(Number(second.counter)).toBeGreaterThan(Number(first.counter));
  });

  test('a request is carried out once, and answers the same when it is repeated', async () => {
    const name = await collection();
    const client = await cluster.client(0);
    const operations = { likes: { increment: 2 } };
    const first = (await change(client, name, operations, request(1))).rows[0] as Record<string, unknown>;
    const before = await version(name);
    const again = (await change(client, name, operations, request(1))).rows[0];
    expect(again).toEqual({ ...first, hlc: null, repeated: true });
    expect(await version(name)).toEqual(before);
    expect(
      await cluster.query(
        0,
        `select key, request, origin, counter, hlc from pgquorum.request where collection = $1`,
        [name],
      ),
    ).toEqual([{ key: 'a', request: request(1), origin: 1, counter: first['counter'], hlc: '0' }]);
    // Another key, and another request, are other operations.
    expect((await change(client, name, operations, request(1), 'b')).rows[0]).toMatchObject({
      repeated: false,
    });
    expect((await change(client, name, operations, request(2))).rows[0]).toMatchObject({
      crdt: { likes: 4 },
    });
    // One without increments is remembered by the node alone, one of another master by the state alone.
    await change(client, name, { tags: { add: 'x' } }, request(3));
    await change(client, name, { tags: { remove: 'x' } });
    expect((await change(client, name, { tags: { add: 'x' } }, request(3))).rows[0]).toMatchObject({
      repeated: true,
      crdt: { tags: [] },
    });
    await cluster.query(0, `delete from pgquorum.request where collection = $1`, [name]);
    expect((await change(client, name, operations, request(1))).rows[0]).toEqual({
      ...again,
      crdt: { ...(first['crdt'] as object), likes: 4 },
    });
  });

  test('a request can write the row and operate on it, in either order', async () => {
    const name = await collection();
    const client = await cluster.client(0);
    await client.query(`begin; set local pgquorum.request = '${request(1)}'`);
    await client.query(`update ${name} set metadata = '{"n":1}' where id = 'a'`);
    expect((await change(client, name, { likes: { increment: 1 } }, request(1))).rows[0]).toMatchObject({
      repeated: false,
    });
    expect((await change(client, name, { likes: { increment: 1 } }, request(1), 'b')).rows[0]).toMatchObject({
      repeated: false,
    });
    await client.query(`update ${name} set metadata = '{"n":1}' where id = 'b'`);
    await client.query('commit');
    for (const key of ['a', 'b'])
      expect(
        (await change(client, name, { likes: { increment: 1 } }, request(1), key)).rows[0],
      ).toMatchObject({
        repeated: true,
        crdt: { likes: 1 },
      });
  });

  test('clients that count at once lose nothing, and one request that comes at once counts once', async () => {
    const name = await collection();
    const clients = await Promise.all(Array.from({ length: 4 }, () => cluster.client(0)));
    await Promise.all(
      clients.map(async (client, at) => {
        for (let n = 0; n < 15; n += 1)
          await change(client, name, { likes: { increment: 1 }, tags: { add: `${at}.${n}` } });
      }),
    );
    const outcomes = await Promise.all(
      clients.map((client) => change(client, name, { stock: { increment: 3 } }, request(1))),
    );
    expect(outcomes.filter(({ rows }) => rows[0].repeated === false)).toHaveLength(1);
    const { v } = await one<{ v: { likes: number; stock: number; tags: string[] } }>(
      `select pgquorum.crdt_get('${name}', 'a') as v`,
    );
    expect([v.likes, v.stock, v.tags.length]).toEqual([60, 3, 60]);
  });

  test('the row is locked before its version, as users and apply do', async () => {
    const name = await collection();
    const [user, counter] = [await cluster.client(0), await cluster.client(0)];
    await user.query(`begin; select from ${name} where id = 'a' for update`);
    const counting = change(counter, name, { likes: { increment: 1 } });
    await eventually(
      'the operation waits for the row',
      async () => (await cluster.query(0, `select from pg_locks where not granted`)).length > 0,
    );
    // It holds nothing that the user is about to take.
    await user.query(`select from pgquorum.version_${name} where id = 'a' for update nowait`);
    await user.query('delete from ' + name + ` where id = 'a'; commit`);
    await expect(counting).rejects.toMatchObject({ code: 'PQ002' });
    // A reader of foreign keys is not in the way.
    await user.query(`begin; select from ${name} where id = 'b' for key share`);
    expect((await change(counter, name, { likes: { increment: 1 } }, null, 'b')).rows).toHaveLength(1);
    await user.query('rollback');
  });

  test('what can not be done is refused with its own state, and leaves nothing', async () => {
    const name = await collection();
    const client = await cluster.client(0);
    const before = await version(name);
    const refused = (code: string, operations: unknown, key = 'a', collectionName = name) =>
      expect(change(client, collectionName, operations, request(9), key)).rejects.toMatchObject({ code });
    await refused('PQ001', { likes: { increment: 1 } }, 'a', 'nowhere');
    await refused('PQ002', { likes: { increment: 1 } }, 'none');
    await refused('PQ003', { views: { increment: 1 } });
    await refused('PQ004', { likes: { decrement: 1 } });
    await refused('PQ005', { likes: { increment: 0 } });
    await cluster.query(0, `select pgquorum.counter_add('${name}', 'b', 'likes', 9007199254740991)`);
    await refused('PQ006', { tags: { add: 1 }, likes: { increment: 1 } }, 'b');
    await expect(client.query(`select pgquorum.set_add('${name}', 'a', 'tags', null)`)).rejects.toMatchObject(
      { code: 'PQ005' },
    );
    await expect(
      client.query(`select pgquorum.counter_add('${name}', 'a', 'likes', -1)`),
    ).rejects.toMatchObject({ code: 'PQ004' });
    await cluster.query(0, `delete from ${name} where id = 'b'`);
    await refused('PQ002', { likes: { increment: 1 } }, 'b');
    expect(await version(name)).toEqual(before);
    await cluster.query(0, `delete from pgquorum.version_${name} where id = 'a'`);
    await refused('PQ007', { likes: { increment: 1 } });
    expect(await cluster.query(0, `select from pgquorum.request where collection = $1`, [name])).toHaveLength(
      0,
    );
  });

  test('an operation can be prepared, and rolls back with its transaction', async () => {
    const name = await collection();
    const client = await cluster.client(0);
    const before = await version(name);
    await client.query('begin');
    await change(client, name, { likes: { increment: 1 } }, request(1));
    await client.query('rollback');
    expect(await version(name)).toEqual(before);
    expect((await change(client, name, { likes: { increment: 1 } }, request(1))).rows[0]).toMatchObject({
      repeated: false,
    });
    const gid = `${cluster.cluster}_crdt`;
    await client.query('begin');
    await change(client, name, { likes: { increment: 1 } });
    await client.query(`prepare transaction '${gid}'`);
    await client.query(`commit prepared '${gid}'`);
    expect(await one(`select pgquorum.crdt_get('${name}', 'a') ->> 'likes' as likes`)).toEqual({
      likes: '2',
    });
  });

  test('keys of several columns and of any type are found by their text, whatever formats a session has set', async () => {
    const name = `pairs${major}`;
    const key = [
      { name: 'day', type: 'date' },
      { name: 'raw', type: 'bytea' },
      { name: 'Part', type: 'integer' },
      { name: 'code', type: 'character varying(3)' },
    ];
    await cluster.query(
      0,
      `create table public.${name} (day date, raw bytea, "Part" int, code varchar(3), embedding vector(3), primary key (day, raw, "Part", code))`,
    );
    for (const statement of installStatements(
      { collection: name, schema: 'public', table: name, key, shards: 8 },
      testDefinition,
      'pgquorum',
    ))
      await cluster.query(0, statement);
    await declare(name);
    const client = await cluster.client(0);
    await client.query(`set datestyle = 'German'; set bytea_output = escape`);
    await client.query(`insert into ${name} values ('2026-01-31', '\\x00ff5c', -7, 'abc', '[1,2,3]')`);
    const text = '["2026-01-31", "\\\\x00ff5c", "-7", "abc"]';
    await change(client, name, { likes: { increment: 1 } }, request(1), text);
    expect(await cluster.query(0, `select key from pgquorum.request where collection = '${name}'`)).toEqual([
      { key: '["2026-01-31","\\\\x00ff5c","-7","abc"]' },
    ]);
    expect(
      (await client.query('select pgquorum.crdt_get($1, $2) as v', [name, text])).rows[0].v,
    ).toMatchObject({ likes: 1 });
    await expect(
      change(client, name, { likes: { increment: 1 } }, null, '["2026-01-31"]'),
    ).rejects.toMatchObject({ code: 'PQ005' });
    // A text that is too long for the column is no key, and is not cut to one.
    await expect(
      change(client, name, { likes: { increment: 1 } }, null, text.replace('abc', 'abcd')),
    ).rejects.toMatchObject({ code: 'PQ002' });
  });
});
