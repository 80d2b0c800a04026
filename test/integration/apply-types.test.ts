/** Columns of any type arrive byte for byte, however the types' oids differ between masters. */
import { expect, test } from '@jest/globals';
import { foundTestCluster, type TestCluster } from '#core/testing/cluster.pg.ts';

const builtin: readonly (readonly [type: string, ...values: string[]])[] = [
  ['smallint', '-32768', '32767'],
  ['integer', '-2147483648', '0'],
  ['bigint', '-9223372036854775808', '9223372036854775807'],
  ['real', `'NaN'`, `'-Infinity'`, '1e-40', '0.1', `'-0'`],
  ['double precision', `'NaN'`, '0.1', '5e-324', `'-0'`],
  [
    'numeric',
    `'NaN'`,
    `'Infinity'`,
    '1.00',
    '-0.000000000000000000000000000001',
    '123456789012345678901234567890.1234567890',
  ],
  ['numeric(10,2)', '12345678.90', '0'],
  ['money', `'-12.34'`],
  ['boolean', 'true', 'false'],
  ['text', `''`, `E'tab\\tquote\\'backslash\\\\'`, `'日本語 👩‍👩‍👧'`, `repeat('long ', 2000)`],
  ['varchar(20)', `'short'`],
  ['char(8)', `'padded'`],
  ['"char"', `'x'`],
  ['name', `'a_name'`],
  ['bytea', `''`, `'\\x00ff5c27'`, `decode(repeat('00ff', 5000), 'hex')`],
  ['bit(5)', `B'10101'`],
  ['bit varying', `B''`, `B'1'`],
  ['date', `'infinity'`, `'4713-01-01 BC'`, `'2026-02-28'`],
  ['time', `'23:59:59.999999'`],
  ['timetz', `'12:00:00+05:45'`],
  ['timestamp', `'-infinity'`, `'2026-01-31 23:59:59.999999'`],
  ['timestamptz', `'infinity'`, `'2026-01-31 23:59:59.999999+13:45'`, `'0001-01-01 00:00:00+00 BC'`],
  ['timestamptz(3)', `'2026-01-31 23:59:59.123+00'`],
  ['interval', `'-1 year 2 mons -3 days 04:05:06.789'`],
  ['uuid', `'0190b2a4-0000-7000-8000-00000000abcd'`],
  ['json', `'{"b": 1,  "a": [1.0, null]}'`],
  ['jsonb', `'{"b": 1.50, "a": "\\u00e9"}'`, `'null'`],
  ['inet', `'2001:db8::1/64'`],
  ['cidr', `'10.0.0.0/8'`],
  ['macaddr8', `'08:00:2b:01:02:03:04:05'`],
  ['point', `'(1.5,-2.5)'`],
  ['polygon', `'((0,0),(1,1),(2,0))'`],
  ['circle', `'<(1,2),3>'`],
  ['tsvector', `'a:1A cat:2,5'`],
  ['tsquery', `'fat & !rat'`],
  ['int4range', `'empty'`, `'[1,10)'`],
  ['tstzmultirange', `'{[2026-01-01 00:00:00+00, 2026-02-01 00:00:00+00)}'`],
  ['pg_lsn', `'16/B374D848'`],
  ['integer[]', `'{}'`, `'{1,NULL,-3}'`, `'[0:1]={5,6}'`, `'{{1,2},{3,4}}'`],
  ['text[]', `array['a', 'b"c', null, '{}', '']`],
  ['numeric[]', `array['NaN'::numeric, 1.00]`],
  ['timestamptz[]', `array['infinity'::timestamptz]`],
  ['jsonb[]', `array['{"a":1}'::jsonb, null]`],
  ['bytea[]', `array['\\x00ff'::bytea]`],
  ['vector', `'[1,2,3]'`, `'[0.1,-0.0,1e-30]'`],
  ['halfvec(3)', `'[0.1,65504,-1]'`],
  ['sparsevec(100000)', `'{1:0.5,99999:-2}/100000'`, `'{}/100000'`],
];

const own: readonly (readonly [type: string, ...values: string[]])[] = [
  ['mood', `'happy'`, `'so so'`],
  ['email', `'a@b.c'`],
  ['mood[]', `array['happy', 'sad']::mood[]`, `'{}'`],
  ['email[]', `array['a@b.c', null]::email[]`],
  ['vector[]', `array['[1,2]'::vector, '[3]'::vector]`],
  ['moods', `array['sad', 'happy']::mood[]`],
  ['pair', `row(1, 'two', 'sad')`, `row(null, null, null)`],
  ['moodrange', `'[sad,happy]'`],
];

const columnsOf = (list: readonly (readonly [string, ...string[]])[]) =>
  list.map(([type], at) => ({ name: `c${at}`, type }));

async function addColumns(
  cluster: TestCluster,
  place: number,
  list: readonly (readonly [string, ...string[]])[],
): Promise<void> {
  await cluster.query(
    place,
    `alter table docs ${columnsOf(list)
      .map(({ name, type }) => `add ${name} ${type}`)
      .join(', ')}`,
  );
}

const rowsOf = (list: readonly (readonly [string, ...string[]])[]): string[] => {
  const most = Math.max(...list.map((one) => one.length - 1));
  // One value of each column in every row, and a row of nulls.
  return [
    ...Array.from({ length: most }, (_, row) =>
      list.map((one) => one[1 + (row % (one.length - 1))]!).join(', '),
    ),
    list.map(() => 'null').join(', '),
  ];
};

const send = (list: readonly (readonly [string, ...string[]])[]) =>
  columnsOf(list)
    .map(({ name }) => `encode(convert_to(${name}::text, 'UTF8'), 'hex') as ${name}`)
    .join(', ');

async function expectSame(
  cluster: TestCluster,
  list: readonly (readonly [string, ...string[]])[],
): Promise<void> {
  const text = `select id, ${send(list)} from docs order by id`;
  const [one, two] = await Promise.all([0, 1].map((place) => cluster.query(place, text)));
  expect(one!.length).toBeGreaterThan(0);
  expect(two).toEqual(one);
  expect(await cluster.query(1, 'select code, reason from pgquorum.pause')).toEqual([]);
  expect(await cluster.query(1, 'select message from pgquorum.dead_letter')).toEqual([]);
}

async function roundTrip(
  cluster: TestCluster,
  list: readonly (readonly [string, ...string[]])[],
): Promise<void> {
  cluster.replicate();
  for (const [at, values] of rowsOf(list).entries())
    await cluster.query(0, `insert into docs values ('r${at}', '[1,2,3]', '{}', ${values})`);
  await cluster.caughtUp();
  await expectSame(cluster, list);
  // As updates, and as re-reads: values out of line that did not change.
  await cluster.query(0, `update docs set metadata = '{"n":1}'`);
  await cluster.caughtUp();
  await expectSame(cluster, list);
  // As the losers of a conflict.
  await cluster.stopEdges();
  await cluster.query(0, `update docs set metadata = '{"by":1}'`);
  await cluster.query(1, `update docs set metadata = '{"by":2}'`);
  cluster.replicate();
  await cluster.caughtUp();
  await cluster.caughtUp();
  await expectSame(cluster, list);
  const [one, two] = await cluster.states('docs');
  expect(two).toEqual(one);
  expect(one!.filter((line) => line.startsWith('conflict'))).toHaveLength(rowsOf(list).length);
}

test.each([18, 16] as const)(
  'built-in types and pgvector arrive byte for byte on Postgres %i',
  async (major) => {
    await using cluster = await foundTestCluster({ count: 2, major, collections: ['docs'] });
    for (const place of [0, 1]) await addColumns(cluster, place, builtin);
    await roundTrip(cluster, builtin);
  },
  120_000,
);

test("types of the users' own, whose oids are others on each master", async () => {
  await using cluster = await foundTestCluster({ count: 2, collections: ['docs'] });
  const create = [
    `create type public.mood as enum ('sad', 'so so', 'happy')`,
    `create domain public.email as text check (value like '%@%')`,
    `create domain public.moods as public.mood[]`,
    `create type public.pair as (n int, t text, m public.mood)`,
    `create type public.moodrange as range (subtype = public.mood)`,
  ];
  for (const place of [0, 1]) {
    if (place === 1) await cluster.query(1, `create type public.other as enum ('takes an oid')`);
    for (const statement of create) await cluster.query(place, statement);
    await addColumns(cluster, place, own);
  }
  const oids = await Promise.all(
    [0, 1].map((place) =>
      cluster.query(
        place,
        `select 'public.mood'::regtype::oid::text as mood, 'public.email'::regtype::oid::text as email`,
      ),
    ),
  );
  expect(oids[0]).not.toEqual(oids[1]);
  await roundTrip(cluster, own);
}, 120_000);

test('between Postgres 16 and 18, both ways', async () => {
  await using cluster = await foundTestCluster({ major: [18, 16], collections: ['docs'] });
  for (const place of [0, 1]) await addColumns(cluster, place, builtin);
  cluster.replicate();
  for (const [at, values] of rowsOf(builtin).entries()) {
    await cluster.query(0, `insert into docs values ('a${at}', '[1,2,3]', '{}', ${values})`);
    await cluster.query(1, `insert into docs values ('b${at}', '[1,2,3]', '{}', ${values})`);
  }
  await cluster.caughtUp();
  await expectSame(cluster, builtin);
}, 120_000);

test('generated columns are made anew on the target, identity columns keep their values', async () => {
  await using cluster = await foundTestCluster({ count: 2, collections: ['docs'] });
  await cluster.everywhere(
    `alter table docs add size int generated always as (length(metadata::text)) stored, add serial bigint generated by default as identity`,
  );
  cluster.replicate();
  await cluster.query(
    0,
    `insert into docs values ('a', '[1,2,3]', '{"n":1}'), ('b', '[1,2,3]', '{"n":1234}')`,
  );
  await cluster.query(1, `insert into docs values ('c', '[1,2,3]', '{"n":1}')`);
  await cluster.query(0, `update docs set metadata = '{"n":12345}' where id = 'a'`);
  await cluster.caughtUp();
  const [one, two] = await cluster.states('docs');
  expect(two).toEqual(one);
  expect(await cluster.query(1, `select id, size, serial::int from docs order by id`)).toEqual([
    { id: 'a', size: 12, serial: 1 },
    { id: 'b', size: 11, serial: 2 },
    { id: 'c', size: 8, serial: 1 },
  ]);
}, 120_000);

test('a losing row of a wide table fits into its record', async () => {
  await using cluster = await foundTestCluster({ count: 2, collections: ['docs'] });
  const wide = Array.from(
    { length: 120 },
    (_, at) => [at % 10 === 0 ? 'integer[]' : 'integer', at % 10 === 0 ? `'{${at}}'` : String(at)] as const,
  );
  for (const place of [0, 1]) await addColumns(cluster, place, wide);
  await roundTrip(cluster, wide);
  const [record] = await cluster.query<{ row: Record<string, string> }>(
    1,
    `select loser_row as row from pgquorum.conflict where key = 'r0'`,
  );
  expect(Object.keys(record!.row)).toHaveLength(123);
  expect([record!.row.c119, record!.row.c110]).toEqual(['119', '{110}']);
}, 120_000);
