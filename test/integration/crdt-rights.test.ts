/** Whom the functions for CRDT fields let in: they run as the owner of everything, so they ask for the caller's rights themselves. */
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import type pg from 'pg';
import { foundTestCluster, type TestCluster } from '#core/testing/cluster.pg.ts';

describe.each([18, 16] as const)('on Postgres %i', (major) => {
  let cluster: TestCluster;
  let tables = 0;
  let role: string;
  let client: pg.Client;
  let name: string;

  /** A collection with a row a. */
  async function collection(): Promise<string> {
    const made = `docs${++tables}`;
    await cluster.create(made);
    await cluster.query(
      0,
      `update pgquorum.collection set definition = jsonb_set(definition, '{conflicts}', '{"strategy": "crdt", "crdt": {"likes": "g-counter"}}') where name = $1`,
      [made],
    );
    await cluster.query(0, `insert into ${made} values ('a', '[1,2,3]')`);
    return made;
  }

  beforeAll(async () => {
    cluster = await foundTestCluster({ count: 1, major });
    role = `crdt_${cluster.cluster}`;
    await cluster.asSuper(0, `create role ${role} login password 'plain'`);
    const url = new URL(cluster.masters[0]!.url);
    url.username = role;
    url.password = 'plain';
    client = await cluster.client(0, { url: url.href });
    name = await collection();
  }, 120_000);
  afterAll(async () => {
    await client.end();
    await cluster.asSuper(0, `drop owned by ${role}; drop role ${role}`);
    await cluster[Symbol.asyncDispose]();
  }, 60_000);

  const add = (by: pg.Client = client) => by.query(`select pgquorum.counter_add('${name}', 'a', 'likes')`);
  const get = () => client.query(`select pgquorum.crdt_get('${name}', 'a') as v`);
  const denied = (attempt: Promise<unknown>) => expect(attempt).rejects.toMatchObject({ code: '42501' });

  test('need select to read, and select and update to operate', async () => {
    await denied(add());
    await denied(get());
    await cluster.query(0, `grant update on ${name} to ${role}`);
    // What comes back would be more than they may read.
    await denied(add());
    await cluster.query(0, `revoke update on ${name} from ${role}; grant select on ${name} to ${role}`);
    await denied(add());
    expect((await get()).rows[0].v).toMatchObject({ likes: 0 });
    await cluster.query(0, `grant update on ${name} to ${role}`);
    await add();
    await add();
    expect((await get()).rows[0].v).toMatchObject({ likes: 2 });
  });

  test('are asked for as whom they act: a superuser who became another role has no more rights than that one', async () => {
    const other = await collection();
    const become = await cluster.client(0, { url: cluster.masters[0]!.superUrl });
    await become.query(`select pgquorum.counter_add('${other}', 'a', 'likes')`);
    await become.query(`set role ${role}`);
    await denied(become.query(`select pgquorum.counter_add('${other}', 'a', 'likes')`));
    await add(become);
  });

  test('get nowhere where row-level security applies to them', async () => {
    await cluster.query(
      0,
      `alter table ${name} enable row level security; create policy everything on ${name} using (true)`,
    );
    await denied(add());
    await denied(get());
    // The owner, and what runs as it, is not bound.
    await cluster.query(0, `select pgquorum.counter_add('${name}', 'a', 'likes')`);
    await cluster.query(0, `alter table ${name} disable row level security`);
    await add();
  });

  test('see and call nothing else of the schema that has rights of its own', async () => {
    await client.query(
      `create temporary table node (number smallint); create temporary table request (collection text)`,
    );
    await add();
    const callable = await client.query<{ name: string }>(
      `select p.proname as name from pg_proc p where p.pronamespace = 'pgquorum'::regnamespace and p.prosecdef and has_function_privilege(p.oid, 'execute') order by 1`,
    );
    expect(callable.rows.map((row) => row.name)).toEqual(['crdt_change', 'crdt_get']);
    const unpinned = await client.query(
      `select p.proname from pg_proc p where p.pronamespace = 'pgquorum'::regnamespace and (p.prosecdef or p.proname like any ('{crdt%,counter%,register%,set%}')) and not coalesce(array_to_string(p.proconfig, ';') like '%search_path=pg_catalog, pg_temp%', false)`,
    );
    expect(unpinned.rows).toEqual([]);
    const readable = await client.query(
      `select c.relname from pg_class c where c.relnamespace = 'pgquorum'::regnamespace and c.relkind in ('r', 'p', 'v', 'm', 'S') and case c.relkind when 'S' then has_sequence_privilege(c.oid, 'usage,select,update') else has_any_column_privilege(c.oid, 'select,insert,update,references') or has_table_privilege(c.oid, 'delete,truncate,trigger') end`,
    );
    expect(readable.rows).toEqual([]);
    await denied(client.query(`select pgquorum.crdt_target('${name}', 'a', true)`));
  });
});
