/** Statements that would fool triggers made more simply: each was seen to do so on Postgres 16 and 18. */
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import type pg from 'pg';
import { keyText } from '#core/changelog/change.ts';
import { installStatements } from '#core/collections/install.ts';
import { keyHash } from '#core/placement/key-hash.ts';
import { foundOn, foundTestCluster, testDefinition, type TestCluster } from '#core/testing/cluster.pg.ts';
import { startMasters } from '#core/testing/masters.pg.ts';
import { eventually } from '#core/testing/wait.process.ts';

describe.each([18, 16] as const)('triggers on Postgres %i', (major) => {
  let cluster: TestCluster;
  let tables = 0;

  beforeAll(async () => {
    cluster = await foundTestCluster({ count: 1, major });
  }, 120_000);
  afterAll(() => cluster[Symbol.asyncDispose](), 60_000);

  async function collection(rows = ''): Promise<string> {
    const name = `traps${++tables}`;
    await cluster.create(name);
    if (rows !== '') await cluster.query(0, `insert into ${name} (id, embedding) values ${rows}`);
    return name;
  }

  const versions = async (name: string, of: pg.Client | TestCluster = cluster): Promise<string[]> => {
    const text = `select id || case when deleted then ' dead' else ' alive' end as line from pgquorum.version_${name} order by id`;
    const rows =
      of === cluster
        ? await cluster.query<{ line: string }>(0, text)
        : (await (of as pg.Client).query<{ line: string }>(text)).rows;
    return rows.map((row) => row.line);
  };
  const counters = async (name: string) =>
    (
      await cluster.query<{ counter: string }>(
        0,
        `select counter::text from pgquorum.version_${name} order by id`,
      )
    ).map((row) => Number(row.counter));

  test('a key that a writable CTE deletes and gives to another row stays alive, though the delete trigger fires last', async () => {
    const name = await collection(`('1', '[1,0,0]'), ('2', '[0,1,0]')`);
    await cluster.query(
      0,
      `with d as (delete from ${name} where id = '2' returning id) update ${name} set id = '2' where id = '1' and exists (select from d)`,
    );
    expect(await cluster.query(0, `select id, embedding::text from ${name}`)).toEqual([
      { id: '2', embedding: '[1,0,0]' },
    ]);
    expect(await versions(name)).toEqual(['1 dead', '2 alive']);
  });

  test('a key that cascades put twice into a transition table is versioned', async () => {
    const name = await collection();
    await cluster.query(
      0,
      `create table ${name}_a (id int primary key); create table ${name}_b (id int primary key)`,
    );
    await cluster.query(
      0,
      `alter table ${name} add a int references ${name}_a on delete set null, add b int references ${name}_b on delete set null, add parent int`,
    );
    await cluster.query(
      0,
      `alter table ${name} add self text, add constraint ${name}_self foreign key (self) references ${name} on delete cascade`,
    );
    await cluster.query(0, `insert into ${name}_a values (1); insert into ${name}_b values (1)`);
    await cluster.query(0, `insert into ${name} (id, a, b) values ('10', 1, 1), ('11', 1, null)`);
    const before = await counters(name);
    // One statement whose cascades update row 10 twice.
    await cluster.query(0, `with a as (delete from ${name}_a), b as (delete from ${name}_b) select`);
    expect(await cluster.query(0, `select id, a, b from ${name} order by id`)).toEqual([
      { id: '10', a: null, b: null },
      { id: '11', a: null, b: null },
    ]);
    const after = await counters(name);
    after.forEach((counter, at) => expect(counter).toBeGreaterThan(before[at]!));
    await cluster.query(0, `insert into ${name} (id, self) values ('12', '10'), ('13', '12')`);
    await cluster.query(0, `delete from ${name} where id = '10'`);
    expect(await versions(name)).toEqual(['10 dead', '11 alive', '12 dead', '13 dead']);
  });

  test('a transition table with the key twice, two foreign keys of one parent', async () => {
    const name = await collection();
    await cluster.query(0, `create table ${name}_p (id int primary key)`);
    await cluster.query(
      0,
      `alter table ${name} add a int references ${name}_p on delete set null, add b int references ${name}_p on delete set null`,
    );
    await cluster.query(0, `create table ${name}_seen (keys text)`);
    await cluster.query(
      0,
      `create function ${name}_look() returns trigger language plpgsql as $$ begin insert into ${name}_seen select string_agg(id, ',' order by id) from n; return null; end $$`,
    );
    await cluster.query(
      0,
      `create trigger look after update on ${name} referencing new table as n for each statement execute function ${name}_look()`,
    );
    await cluster.query(
      0,
      `insert into ${name}_p values (1); insert into ${name} (id, a, b) values ('10', 1, 1), ('11', 1, null)`,
    );
    await cluster.query(0, `delete from ${name}_p`);
    // The premise: Postgres shows the key more than once to one trigger.
    const shown = (await cluster.query<{ keys: string }>(0, `select keys from ${name}_seen`)).map(
      (row) => row.keys,
    );
    expect(shown).toContain('10,10,11');
    expect(await versions(name)).toEqual(['10 alive', '11 alive']);
    expect(await cluster.query(0, `select a, b from ${name} where id = '10'`)).toEqual([
      { a: null, b: null },
    ]);
  });

  test('a row of a bulk insert that is gone again, moved or inserted twice when the statement ends', async () => {
    const name = await collection(`('0', '[1,2,3]')`);
    const when = (id: string, what: string) => `if new.id = '${id}' then ${what}; end if;`;
    await cluster.query(
      0,
      `create function ${name}_before() returns trigger language plpgsql as $$ begin
         ${when('5', `delete from ${name} where id = '4'`)} return new; end $$;
       create function ${name}_after() returns trigger language plpgsql as $$ begin
         ${when('1', `delete from ${name} where id = '1'`)}
         ${when('2', `update ${name} set id = '3' where id = '2'`)}
         ${when('7', `begin delete from ${name} where id = '7'; perform 1 / 0; exception when division_by_zero then null; end`)} return null; end $$;
       create trigger before_row before insert on ${name} for each row execute function ${name}_before();
       create trigger after_row after insert on ${name} for each row execute function ${name}_after()`,
    );
    const insert = async (ids: readonly string[]) => {
      // A session of its own: what one has written before would have every key looked up.
      const client = await cluster.client(0);
      const rows = ids.map((id) => `('${id}', '[1,2,3]')`).join(', ');
      await client.query(`insert into ${name} (id, embedding) values ${rows}`);
      await client.end();
      return versions(name);
    };
    expect(await insert(['0a', '1'])).toEqual(['0 alive', '0a alive', '1 dead']);
    expect((await insert(['2', '6'])).slice(3)).toEqual(['2 dead', '3 alive', '6 alive']);
    expect((await insert(['4', '5', '4', '7'])).slice(5)).toEqual([
      '4 alive',
      '5 alive',
      '6 alive',
      '7 alive',
    ]);
    const [gone, twice] = [await cluster.client(0), await cluster.client(0)];
    await gone.query(`with d as (delete from ${name} where id = '0' returning 1) insert into ${name} (id, embedding) select x, '[1,2,3]' from (values ('8'), ('9')) v(x), d`); // prettier-ignore
    expect(await versions(name)).toEqual(expect.arrayContaining(['0 dead', '8 alive', '9 alive']));
    // Rows that were there before are told by the same trigger as those that are new.
    await twice.query(`insert into ${name} (id, embedding) values ('8', '[3,2,1]'), ('91', '[1,2,3]'), ('92', '[1,2,3]') on conflict (id) do update set embedding = excluded.embedding`); // prettier-ignore
    expect(await versions(name)).toEqual(
      expect.arrayContaining(['8 alive', '9 alive', '91 alive', '92 alive']),
    );
  });

  test('truncate is refused under an older snapshot, which does not show rows that others wrote since', async () => {
    const name = await collection(`('a', '[1,2,3]')`);
    const client = await cluster.client(0);
    for (const level of ['repeatable read', 'serializable']) {
      await client.query(`begin isolation level ${level}; select 1`);
      await client.query(`select count(*) from ${name}`);
      await client.query('savepoint s');
      await expect(client.query(`truncate ${name}`)).rejects.toMatchObject({
        code: '25001',
        message: expect.stringContaining('READ COMMITTED'),
      });
      await client.query('rollback');
    }
    expect(await versions(name)).toEqual(['a alive']);
    await client.query(`begin isolation level read committed; select count(*) from ${name}`);
    await cluster.query(0, `insert into ${name} values ('later', '[1,2,3]')`);
    await client.query(`truncate ${name}; commit`);
    expect(await versions(name)).toEqual(['a dead', 'later dead']);
    expect(await cluster.query(0, `select * from ${name}`)).toEqual([]);
  });

  test('a transaction with writes, also a truncate, can be prepared', async () => {
    const name = await collection(`('a', '[1,2,3]'), ('b', '[1,2,3]')`);
    const client = await cluster.client(0);
    const gid = `${cluster.cluster} ${name}`;
    await client.query(
      `begin; update ${name} set metadata = '{"n":1}' where id = 'a'; delete from ${name} where id = 'b'; insert into ${name} values ('c', '[1,2,3]'); prepare transaction '${gid}'`,
    );
    expect(await versions(name)).toEqual(['a alive', 'b alive']);
    await cluster.query(0, `commit prepared '${gid}'`);
    expect(await versions(name)).toEqual(['a alive', 'b dead', 'c alive']);
    await client.query(`begin; truncate ${name}; prepare transaction '${gid}'`);
    await cluster.query(0, `commit prepared '${gid}'`);
    expect(await versions(name)).toEqual(['a dead', 'b dead', 'c dead']);
  });

  test('a role with table privileges only can write, and can not switch versioning off', async () => {
    const name = await collection(`('a', '[1,2,3]')`);
    const role = `plain_${cluster.cluster}`;
    await cluster.asSuper(0, `create role ${role} login password 'plain'`);
    try {
      await cluster.query(0, `grant select, insert, update, delete, truncate on ${name} to ${role}`);
      const url = new URL(cluster.masters[0]!.url);
      url.username = role;
      url.password = 'plain';
      const client = await cluster.client(0, { url: url.href });
      const before = await counters(name);
      await client.query(`set pgquorum.apply = 'on'`);
      await client.query(`update ${name} set metadata = '{"n":1}'`);
      expect((await counters(name))[0]).toBeGreaterThan(before[0]!);
      await client.query(`insert into ${name} values ('b', '[1,2,3]')`);
      await client.query(`delete from ${name} where id = 'a'`);
      expect(await versions(name)).toEqual(['a dead', 'b alive']);
      await client.query(`truncate ${name}`);
      expect(await versions(name)).toEqual(['a dead', 'b dead']);
      // The version table and the functions are none of its business.
      await expect(client.query(`select * from pgquorum.version_${name}`)).rejects.toMatchObject({
        code: '42501',
      });
      await expect(client.query('select pgquorum.advance_dot(5)')).rejects.toMatchObject({ code: '42501' });
      // A table of the same name in a schema that comes first does not catch the trigger.
      await client.query(
        `create temporary table node (number smallint); create temporary table version_${name} (id text)`,
      );
      await client.query(`insert into ${name} values ('c', '[1,2,3]')`);
      expect(await versions(name)).toEqual(['a dead', 'b dead', 'c alive']);
      await client.end();
    } finally {
      await cluster.query(0, `revoke all on ${name} from ${role}`);
      await cluster.asSuper(0, `drop role ${role}`);
    }
  });

  test('the setting of apply counts for our own role only, however another one becomes it', async () => {
    const name = await collection(`('a', '[1,2,3]')`);
    const before = await counters(name);
    const own = await cluster.client(0);
    await own.query(`set pgquorum.apply = 'on'; update ${name} set metadata = '{"own":1}'`);
    expect(await counters(name)).toEqual(before);
    await own.query(`set pgquorum.apply = 'off'; update ${name} set metadata = '{"own":2}'`);
    expect(await counters(name)).not.toEqual(before);
    const other = await cluster.client(0, { url: cluster.masters[0]!.superUrl });
    const between = await counters(name);
    await other.query(
      `set role pgquorum; set pgquorum.apply = 'on'; update ${name} set metadata = '{"other":1}'`,
    );
    expect(await counters(name)).not.toEqual(between);
  });

  test('session_replication_role = replica does not switch versioning off', async () => {
    const name = await collection(`('a', '[1,2,3]')`);
    const client = await cluster.client(0, { url: cluster.masters[0]!.superUrl });
    await client.query(`set session_replication_role = replica`);
    await client.query(`insert into ${name} values ('b', '[1,2,3]'); delete from ${name} where id = 'a'`);
    expect(await versions(name)).toEqual(['a dead', 'b alive']);
    await client.query(`truncate ${name}`);
    expect(await versions(name)).toEqual(['a dead', 'b dead']);
  });

  test('a writer that waited for another one of the key has seen it', async () => {
    const name = await collection(`('a', '[1,2,3]'), ('b', '[1,2,3]')`);
    const [one, two] = [await cluster.client(0), await cluster.client(0)];
    await one.query(`begin; update ${name} set metadata = '{"by":1}' where id = 'a'`);
    const waiting = two.query(`update ${name} set metadata = '{"by":2}' where id = 'a'`);
    await eventually(
      'the second waits for the first',
      async () => (await cluster.query(0, `select from pg_locks where not granted`)).length > 0,
    );
    await one.query('commit');
    await waiting;
    const [version] = await cluster.query<{ counter: string; clock: Record<string, number> }>(
      0,
      `select counter::text, clock from pgquorum.version_${name} where id = 'a'`,
    );
    expect(version!.clock).toEqual({ 1: Number(version!.counter) });
    expect(await cluster.query(0, `select metadata ->> 'by' as by from ${name} where id = 'a'`)).toEqual([
      { by: '2' },
    ]);
  });

  test('key columns with the names of variables of PL/pgSQL', async () => {
    const name = `found_${major}`;
    const key = [
      { name: 'found', type: 'text' },
      { name: 'tg_op', type: 'integer' },
    ];
    await cluster.query(
      0,
      `create table ${name} (found text, tg_op int, body text, primary key (found, tg_op))`,
    );
    const table = { collection: name, schema: 'public', table: name, key, shards: 8 };
    for (const statement of installStatements(table, testDefinition, 'pgquorum'))
      await cluster.query(0, statement);
    await cluster.query(0, `insert into ${name} values ('a', 1)`);
    await cluster.query(
      0,
      `insert into ${name} values ('a', 1), ('b', 2) on conflict (found, tg_op) do update set body = 'x'`,
    );
    await cluster.query(0, `delete from ${name} where found = 'a'`);
    expect(
      await cluster.query(0, `select found, tg_op, deleted from pgquorum.version_${name} order by found`),
    ).toEqual([
      { found: 'a', tg_op: 1, deleted: true },
      { found: 'b', tg_op: 2, deleted: false },
    ]);
  });

  test('a composite key is hashed and remembered alike, whatever formats a session has set', async () => {
    const name = `pairs_${major}`;
    const key = [
      { name: 'day', type: 'date' },
      { name: 'raw', type: 'bytea' },
      { name: 'part', type: 'integer' },
    ];
    await cluster.query(
      0,
      `create table public.${name} (day date, raw bytea, part int, embedding vector(3), primary key (day, raw, part))`,
    );
    for (const statement of installStatements(
      { collection: name, schema: 'public', table: name, key, shards: 64 },
      { ...testDefinition, shards: 64 },
      'pgquorum',
    ))
      await cluster.query(0, statement);
    const client = await cluster.client(0);
    const request = '0190b2a4-0000-7000-8000-00000000abcd';
    await client.query(
      `set datestyle = 'German'; set bytea_output = escape; set pgquorum.request = '${request}'`,
    );
    await client.query(`insert into ${name} values ('2026-01-31', '\\x00ff5c', -7, '[1,2,3]')`);
    const text = keyText(['2026-01-31', '\\x00ff5c', '-7']);
    expect(
      await cluster.query(
        0,
        `select shard, (select key from pgquorum.request where collection = '${name}') as key from pgquorum.version_${name}`,
      ),
    ).toEqual([{ shard: keyHash(text) % 64, key: text }]);
  });
});

test('no dot is used twice over an immediate stop, and none that was durable is forgotten', async () => {
  await using masters = await startMasters({ count: 1 });
  await using cluster = await foundOn(masters.nodes, { cluster: 'dots', collections: ['docs'] });
  const master = masters.nodes[0]!;
  const used = new Set<string>();
  const highest = async () =>
    Number(
      (
        await cluster.query<{ counter: string }>(
          0,
          'select max(counter)::text as counter from pgquorum.version_docs',
        )
      )[0]!.counter,
    );
  for (let round = 0; round < 3; round += 1) {
    const client = await cluster.client(0);
    for (let write = 0; write < 5; write += 1) {
      await client.query(
        `insert into docs values ('k', '[1,2,3]') on conflict (id) do update set metadata = '{}'`,
      );
      const [version] = await cluster.query<{ counter: string }>(
        0,
        'select counter::text from pgquorum.version_docs',
      );
      expect(used.has(version!.counter)).toBe(false);
      used.add(version!.counter);
    }
    await client.query(`begin; update docs set metadata = '{"lost":1}'`);
    const before = await highest();
    if (round === 1) await master.kill9();
    else await master.stop('immediate');
    await master.start();
    await eventually('the server answers', () => highest());
    expect(await highest()).toBe(before);
  }
}, 120_000);
