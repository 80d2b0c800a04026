/** What the triggers make of the statements of any SQL client: DESIGN's versions, on both majors. */
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import type pg from 'pg';
import { keyText } from '#core/changelog/change.ts';
import { keyHash } from '#core/placement/key-hash.ts';
import { foundTestCluster, type TestCluster } from '#core/testing/cluster.pg.ts';
import { writeLocally } from '#core/versioning/local-write.ts';
import type { KeyState } from '#core/versioning/merge.ts';
import type { Epoch, HlcValue, NodeNumber, Version } from '#core/versioning/version.ts';

interface Row {
  id: string;
  hlc: string;
  origin: number;
  counter: string;
  clock: Record<string, number>;
  seen: Record<string, number> | null;
  deleted: boolean;
  applied: boolean;
  shard: number;
  request: string | null;
}

describe.each([18, 16] as const)('triggers on Postgres %i', (major) => {
  let cluster: TestCluster;
  let tables = 0;

  beforeAll(async () => {
    cluster = await foundTestCluster({ count: 1, major });
  }, 120_000);
  afterAll(() => cluster[Symbol.asyncDispose](), 60_000);

  /** A collection of the test's own. */
  async function collection(shards?: number): Promise<{
    name: string;
    sql: (text: string, values?: unknown[]) => Promise<Record<string, unknown>[]>;
    versions: () => Promise<Row[]>;
    version: (id: string) => Promise<Row>;
  }> {
    const name = `docs${++tables}`;
    await cluster.create(name, shards === undefined ? {} : { shards });
    const sql = (text: string, values?: unknown[]) => cluster.query(0, text.replaceAll('docs', name), values);
    const versions = () =>
      cluster.query<Row & Record<string, unknown>>(
        0,
        `select id, hlc::text, origin, counter::text, clock, seen, deleted, applied, shard, request from pgquorum.version_${name} order by id`,
      );
    const version = async (id: string) => (await versions()).find((row) => row.id === id)!;
    return { name, sql, versions, version };
  }

  const alive = (rows: readonly Row[]) => rows.filter((row) => !row.deleted).map((row) => row.id);
  const dead = (rows: readonly Row[]) => rows.filter((row) => row.deleted).map((row) => row.id);
  const dots = (rows: readonly Row[]) => rows.map((row) => `${row.origin}.${row.counter}`);

  test('an insert gives a key its first version: own dot, own clock, wall-clock hlc, shard of the key', async () => {
    const { sql, versions } = await collection();
    const before = BigInt(Date.now() - 1000) << 16n;
    await sql(`insert into docs values ('a', '[1,2,3]'), ('b', '[1,2,3]')`);
    const [a, b] = await versions();
    expect(a).toMatchObject({
      origin: 1,
      deleted: false,
      applied: false,
      seen: null,
      request: null,
      clock: { 1: Number(a!.counter) },
      shard: keyHash('a') % 8,
    });
    expect(Number(b!.counter)).toBe(Number(a!.counter) + 1);
    expect(BigInt(a!.hlc)).toBeGreaterThan(before);
    expect(BigInt(a!.hlc) & 0xffffn).toBe(0n);
  });

  test('writes are made under a changed number from its commit on, whether it is noted or not', async () => {
    const { sql, version } = await collection();
    const origin = async (id: string) => {
      await sql(`insert into docs values ($1, '[1,2,3]')`, [id]);
      return (await version(id)).origin;
    };
    const noted = async () =>
      (await sql(`select pg_sequence_last_value('pgquorum.own') <> 0 as noted`))[0]!['noted'];
    expect([await noted(), await origin('noted')]).toEqual([true, 1]);
    await expect(
      sql(`do $$ begin update pgquorum.node set number = 900; raise exception 'taken back'; end $$`),
    ).rejects.toThrow('taken back');
    expect([await noted(), await origin('rolled back')]).toEqual([false, 1]);
    try {
      await sql('update pgquorum.node set number = 900');
      expect([await noted(), await origin('changed')]).toEqual([false, 900]);
      await sql('select pgquorum.note_own()');
      expect([await noted(), await origin('changed and noted')]).toEqual([true, 900]);
    } finally {
      await sql('update pgquorum.node set number = 1, started = null');
    }
    // Not confirmed to be the database that others remember: it is noted since when writes are made all the same.
    await sql('select pgquorum.note_own()');
    expect([await noted(), await origin('unconfirmed')]).toEqual([false, 1]);
    expect(
      await sql('select last_value = pgquorum.server_start_us() as told from pgquorum.unconfirmed_us'),
    ).toEqual([{ told: true }]);
    await sql(`update pgquorum.node set started = pg_postmaster_start_time()
      where setval('pgquorum.unconfirmed_us', pgquorum.server_start_us()) > 0`);
    await sql('select pgquorum.note_own()');
    expect([await noted(), await origin('confirmed')]).toEqual([true, 1]);
  });

  test.each([1, 7, 64, 256, 300, 512])('the shard of a key, of %i', async (shards) => {
    const { sql } = await collection(shards);
    await sql(`insert into docs values ('alone', '[1,2,3]')`);
    await sql(`insert into docs select 'k' || n, '[1,2,3]' from generate_series(1, 20) n`);
    const found = await sql(`select id, shard from pgquorum.version_docs`);
    expect(found).toHaveLength(21);
    expect(found).toEqual(found.map(({ id }) => ({ id, shard: keyHash(id as string) % shards })));
  });

  test('update, upsert and delete give a fresh dot, a greater hlc and a clock that covers the old dot', async () => {
    const { sql, version } = await collection();
    await sql(`insert into docs values ('a', '[1,2,3]')`);
    const seen: Row[] = [await version('a')];
    for (const statement of [
      `update docs set metadata = '{"n":1}' where id = 'a'`,
      `insert into docs values ('a', '[3,2,1]') on conflict (id) do update set embedding = excluded.embedding`,
      `delete from docs where id = 'a'`,
      `insert into docs values ('a', '[1,1,1]')`,
    ]) {
      await sql(statement);
      const now = await version('a');
      const last = seen.at(-1)!;
      expect(Number(now.counter)).toBeGreaterThan(Number(last.counter));
      expect(BigInt(now.hlc)).toBeGreaterThan(BigInt(last.hlc));
      expect(now.clock).toEqual({ 1: Number(now.counter) });
      expect(now.deleted).toBe(statement.startsWith('delete'));
      seen.push(now);
    }
    expect(new Set(dots(seen)).size).toBe(seen.length);
  });

  test('on conflict do nothing, and statements that touch no row, change no version', async () => {
    const { sql, versions } = await collection();
    await sql(`insert into docs values ('a', '[1,2,3]')`);
    const before = await versions();
    await sql(`insert into docs values ('a', '[9,9,9]') on conflict do nothing`);
    await sql(`update docs set metadata = '{}' where id = 'none'`);
    await sql(`delete from docs where false`);
    await sql(`insert into docs select 'x', '[1,2,3]' where false`);
    expect(await versions()).toEqual(before);
  });

  test('an upsert of new and of known keys versions each once', async () => {
    const { sql, versions } = await collection();
    await sql(`insert into docs values ('a', '[1,2,3]')`);
    await sql(
      `insert into docs values ('b', '[1,2,3]'), ('a', '[1,2,3]'), ('c', '[1,2,3]') on conflict (id) do update set embedding = excluded.embedding`,
    );
    const rows = await versions();
    expect(alive(rows)).toEqual(['a', 'b', 'c']);
    expect(new Set(dots(rows)).size).toBe(3);
  });

  test('merge, copy and truncate are versioned', async () => {
    const { name, sql, versions } = await collection();
    const client = await cluster.client(0);
    await copyIn(client, `copy ${name} (id, embedding) from stdin`, `a\t[1,2,3]\nb\t[1,2,3]\n`);
    expect(alive(await versions())).toEqual(['a', 'b']);
    await sql(
      `merge into docs d using (values ('b'), ('c')) s(id) on d.id = s.id when matched then delete when not matched then insert (id, embedding) values (s.id, '[0,0,1]')`,
    );
    expect(alive(await versions())).toEqual(['a', 'c']);
    expect(dead(await versions())).toEqual(['b']);
    const before = await versions();
    await sql('truncate docs');
    const after = await versions();
    expect(dead(after)).toEqual(['a', 'b', 'c']);
    expect(after[1]).toEqual(before[1]); // b was gone already
    expect(BigInt(after[0]!.hlc)).toBeGreaterThan(BigInt(before[0]!.hlc));
  });

  test('a changed key leaves a tombstone of the old one', async () => {
    const { sql, versions } = await collection();
    await sql(`insert into docs values ('a', '[1,2,3]'), ('b', '[1,2,3]')`);
    await sql(`update docs set id = 'moved' where id = 'a'`);
    expect(alive(await versions())).toEqual(['b', 'moved']);
    expect(dead(await versions())).toEqual(['a']);
    const before = await versions();
    await sql(`update docs set id = case id when 'b' then 'moved2' else 'b' end`); // b -> moved2, moved -> b
    const after = await versions();
    expect(alive(after)).toEqual(['b', 'moved2']);
    expect(dead(after)).toEqual(['a', 'moved']);
    expect(after[1]!.counter).not.toBe(before[1]!.counter);
  });

  test('a transaction of several statements counts them all; a rolled back one leaves nothing and its dots are never used', async () => {
    const { name, sql, version, versions } = await collection();
    const client = await cluster.client(0);
    await client.query(
      `begin; insert into ${name} values ('a', '[1,2,3]'); update ${name} set metadata = '{"n":1}'; delete from ${name}; insert into ${name} values ('a', '[1,2,3]'); commit`,
    );
    const kept = await version('a');
    expect(kept).toMatchObject({ deleted: false, clock: { 1: Number(kept.counter) } });
    await client.query(`begin; update ${name} set metadata = '{"n":2}'`);
    const inside = (
      await client.query<{ counter: string }>(`select counter::text from pgquorum.version_${name}`)
    ).rows[0]!;
    await client.query(`savepoint s; delete from ${name}; rollback to s; rollback`);
    expect(await versions()).toEqual([kept]);
    await sql(`update docs set metadata = '{"n":3}'`);
    expect(Number((await version('a')).counter)).toBeGreaterThan(Number(inside.counter));
  });

  test('the hlc is above the old one, however far the wall clock is behind', async () => {
    const { name, sql, version } = await collection();
    await sql(`insert into docs values ('a', '[1,2,3]')`);
    const ahead = BigInt(Date.now() + 3_600_000) << 16n;
    await sql(`update pgquorum.version_docs set hlc = ${ahead}`);
    await sql(`update docs set metadata = '{"n":1}'`);
    expect((await version('a')).hlc).toBe(String(ahead + 1n));
    await sql(`delete from docs`);
    expect((await version('a')).hlc).toBe(String(ahead + 2n));
    const horizon = BigInt(Date.now() + 7_200_000) << 16n;
    await cluster.query(0, 'insert into pgquorum.horizon (collection, shard, hlc) values ($1, 0, $2)', [
      name,
      String(horizon),
    ]);
    await sql(`insert into docs values ('b', '[1,2,3]')`);
    expect(BigInt((await version('b')).hlc)).toBeGreaterThanOrEqual(horizon);
  });

  test('the counter is above what a key has seen of this node, and the sequence follows it', async () => {
    const { sql, version, versions } = await collection();
    await sql(`insert into docs values ('a', '[1,2,3]'), ('b', '[1,2,3]'), ('c', '[1,2,3]')`);
    const [{ last }] = (await sql('select last_value::text as last from pgquorum.dot')) as [{ last: string }];
    const far = Number(last) + 100_000;
    // As after a restored sequence: two keys have seen counters that it has not reached, one of them in `seen` only.
    await sql(`update pgquorum.version_docs set clock = clock || '{"1": ${far}, "7": 5}' where id = 'a'`);
    await sql(`update pgquorum.version_docs set seen = clock || '{"1": ${far - 10}}' where id = 'b'`);
    await sql(`update docs set metadata = '{"n":1}'`);
    const rows = await versions();
    for (const row of rows) expect(row.clock['1']).toBe(Number(row.counter));
    expect(Number(rows[0]!.counter)).toBeGreaterThan(far);
    expect(rows[0]!.clock['7']).toBe(5);
    expect(Number(rows[1]!.counter)).toBeGreaterThan(far - 10);
    expect(new Set(dots(rows)).size).toBe(3);
    const highest = Math.max(...rows.map((row) => Number(row.counter)));
    await sql(`insert into docs values ('d', '[1,2,3]')`);
    expect(Number((await version('d')).counter)).toBeGreaterThan(highest);
  });

  test('the triggers and the model of a local write agree', async () => {
    const { sql, version } = await collection();
    await sql(`insert into docs values ('a', '[1,2,3]')`);
    const hlc = BigInt(Date.now() + 60_000) << 16n;
    await sql(
      `update pgquorum.version_docs set rank = 0, hlc = ${hlc}, origin = 3, counter = 9, clock = '{"1": 2, "3": 9}', seen = '{"1": 4, "2": 6, "3": 9}', applied = true`,
    );
    const old: Version = {
      rank: 0,
      epoch: 0n as Epoch,
      hlc: hlc as HlcValue,
      dot: { origin: 3 as NodeNumber, counter: 9 },
      clock: { 1: 2, 3: 9 },
      deleted: false,
      request: null,
      crdt: null,
    };
    const state: KeyState<null> = {
      winner: { version: old, row: null },
      seen: { 1: 4, 2: 6, 3: 9 },
      losers: [],
    };
    await sql(`delete from docs`);
    const found = await version('a');
    const drawn = Number(found.counter);
    const expected = writeLocally(state, {
      node: 1 as NodeNumber,
      now: (BigInt(Date.now()) << 16n) as HlcValue,
      drawn,
      deleted: true,
      row: null,
      request: null,
      purgeHorizon: null,
    }).state.winner.version;
    expect(found).toMatchObject({
      hlc: String(expected.hlc),
      origin: 1,
      clock: expected.clock,
      seen: null,
      deleted: true,
      applied: false,
    });
    expect(expected.clock).toEqual({ 1: drawn, 2: 6, 3: 9 });
  });

  test('a request id is stored with the version and remembered per key', async () => {
    const { name, sql, versions } = await collection();
    const client = await cluster.client(0);
    const request = '0190b2a4-0000-7000-8000-00000000abcd';
    await client.query(
      `begin; set local pgquorum.request = '${request}'; insert into ${name} values ('a', '[1,2,3]'), ('b', '[1,2,3]'); commit`,
    );
    await client.query(`insert into ${name} values ('c', '[1,2,3]')`);
    const rows = await versions();
    expect(rows.map((row) => row.request)).toEqual([request, request, null]);
    const remembered = await sql(
      'select key, origin || $2 || counter as dot, hlc::text as hlc from pgquorum.request where collection = $1 order by key',
      [name, '.'],
    );
    expect(remembered).toEqual(
      rows.slice(0, 2).map((row) => ({ key: row.id, dot: `1.${row.counter}`, hlc: row.hlc })),
    );
  });

  test('a local write supersedes the open losers of its keys, and publishes that', async () => {
    const { name, sql } = await collection();
    await sql(`insert into docs values ('a', '[1,2,3]'), ('b', '[1,2,3]')`);
    const record = async (key: string, counter: number) => {
      await sql(
        `insert into pgquorum.conflict (id, collection, key, key_texts, shard, kind, loser_rank, loser_epoch, loser_hlc, loser_origin, loser_counter, loser_clock, loser_deleted, winner_hlc, winner_origin, winner_counter, state, state_hlc, state_origin, decided_by, reason, applied)
         values (gen_random_uuid(), $1, $2, jsonb_build_array($2::text), 0, 'update-update', 0, 0, 1, 2, $3, '{}', false, 2, 1, 1, 'open', 2, 1, 'lww', 'test', true)`,
        [name, key, counter],
      );
      await sql(
        `update pgquorum.version_docs set seen = clock || jsonb_build_object(2, $2::bigint) where id = $1`,
        [key, counter],
      );
    };
    await record('a', 1);
    await record('a', 2);
    await record('b', 3);
    await sql(`delete from docs where id = 'a'`);
    const states = await sql(
      `select key, loser_counter::int as counter, state, applied, state_origin from pgquorum.conflict where collection = $1 order by 1, 2`,
      [name],
    );
    expect(states).toEqual([
      { key: 'a', counter: 1, state: 'superseded', applied: false, state_origin: 1 },
      { key: 'a', counter: 2, state: 'superseded', applied: false, state_origin: 1 },
      { key: 'b', counter: 3, state: 'open', applied: true, state_origin: 1 },
    ]);
  });
});

describe.each([18, 16] as const)('keys on Postgres %i', (major) => {
  test('their text and hash are the same in SQL and in TypeScript', async () => {
    await using cluster = await foundTestCluster({ count: 1, major });
    const controls = Array.from({ length: 31 }, (_, at) => String.fromCharCode(at + 1)).join('');
    const keys = [
      ['plain'],
      [''],
      ['a', 'b'],
      ['', ''],
      ['"', '\\', '\\"'],
      ['a"b\\c/d', `it's`],
      [controls, '\x7f\x80\x9f'],
      ['\u2028\u2029', 'é', 'e\u0301', '日本語', '👩‍👩‍👧', '\uffff', '\ud7ff\ue000'],
      ['[', ']', ','],
      ['null', 'true', '1'],
      [' x ', '\t\n'],
    ];
    for (const key of keys) {
      const [row] = await cluster.query<{ text: string; hash: string }>(
        0,
        'select pgquorum.key_text(variadic $1::text[]) as text, pgquorum.key_hash(pgquorum.key_text(variadic $1::text[]))::text as hash',
        [key],
      );
      expect([key, row]).toEqual([key, { text: keyText(key), hash: String(keyHash(keyText(key))) }]);
    }
  }, 120_000);
});

/** `copy … from stdin` without a stream library: the driver hands over its connection. */
async function copyIn(client: pg.Client, text: string, data: string): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    const submittable = {
      submit: (connection: { query(text: string): void }) => connection.query(text),
      handleCopyInResponse: (connection: { sendCopyFromChunk(chunk: Buffer): void; endCopyFrom(): void }) => {
        connection.sendCopyFromChunk(Buffer.from(data));
        connection.endCopyFrom();
      },
      handleCommandComplete: () => undefined,
      handleReadyForQuery: () => resolve(),
      handleError: (cause: Error) => reject(cause),
    };
    client.query(submittable as unknown as pg.Submittable);
  });
}
