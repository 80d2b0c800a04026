/** Tables that existed before: their rows reach every master, whatever their keys and columns are, and writes go on meanwhile. */
import { expect, test } from '@jest/globals';
import { foundTestCluster, type TestCluster } from '#core/testing/cluster.pg.ts';
import { attach, attachAll, rowsOf, runAttachJob, startAttachJob } from './attach/attaching.ts';

/** Three masters with edges between all of them. */
async function replicatedCluster(): Promise<TestCluster> {
  const cluster = await foundTestCluster({ count: 3 });
  cluster.replicate();
  return cluster;
}

async function expectSame(cluster: TestCluster, table: string): Promise<void> {
  await cluster.caughtUp();
  const [one, ...others] = await Promise.all([0, 1, 2].map((place) => rowsOf(cluster, place, table)));
  for (const other of others) expect(other).toEqual(one);
}

/** Keys of one number or uuid are in the other tests. */
const kinds: readonly { name: string; columns: string; key: string; values: string; next: string }[] = [
  {
    name: 'texts',
    columns: 'k varchar(40) collate "POSIX"',
    key: 'k',
    values: `'Ä ' || i`,
    next: `'Z, é"\\'`,
  },
  {
    name: 'pairs',
    columns: '"tenant id" text, "Nr" integer',
    key: '"Nr", "tenant id"',
    values: `'t' || i % 3, i`,
    next: `'t"[', 0`,
  },
  {
    name: 'many',
    columns: 'region text collate "C", small smallint, flag boolean, at date, raw bytea',
    key: 'region, flag, raw, at, small',
    values: `'r' || i, i, i % 2 = 0, date '2026-01-01' + i, decode(md5(i::text), 'hex')`,
    next: `'', -1, true, 'today', '\\x00'`,
  },
];

test('rows with keys of every kind reach masters that did not have the table, and later writes go both ways', async () => {
  await using cluster = await replicatedCluster();
  for (const [at, { name, columns, key, values, next }] of kinds.entries()) {
    const home = at % 3;
    await cluster.query(
      home,
      `create table ${name} (${columns}, body text, v vector(3), primary key (${key}))`,
    );
    await cluster.query(
      home,
      `insert into ${name} select ${values}, repeat('x', i * 40), array[i, 1, 2]::real[]::vector from generate_series(1, 120) i`,
    );
    const { outcome } = await attachAll(cluster, name, { table: `public.${name}` });
    expect(await collationsOf(cluster, name)).toEqual(await collationsOf(cluster, `version_${name}`));
    expect(outcome).toMatchObject({ attached: true, definition: { dimension: 3 } });
    expect(outcome.created).toHaveLength(2);
    const elsewhere = (home + 1) % 3;
    expect(await rowsOf(cluster, elsewhere, name)).toHaveLength(120);
    await cluster.query(elsewhere, `insert into ${name} values (${next}, 'new', null)`);
    await cluster.query((home + 2) % 3, `update ${name} set body = 'changed' where length(body) = 40`);
    await cluster.query(home, `delete from ${name} where length(body) = 80`);
    await expectSame(cluster, name);
    expect(await rowsOf(cluster, 0, name)).toHaveLength(120);
  }
  for (const place of [0, 1, 2]) {
    expect(await cluster.query(place, 'select * from pgquorum.dead_letter')).toEqual([]);
    expect(await cluster.query(place, 'select * from pgquorum.conflict')).toEqual([]);
    expect(await cluster.query(place, 'select * from pgquorum.parked')).toEqual([]);
  }
}, 120_000);

/** An index answers only for its own collation, so both tables have the same. */
async function collationsOf(cluster: TestCluster, table: string): Promise<unknown[]> {
  return cluster.query(
    0,
    `select a.attname, a.attcollation from pg_class c join pg_index i on i.indrelid = c.oid and i.indisprimary join pg_attribute a on a.attrelid = c.oid and a.attnum = any(i.indkey)
     where c.relname = $1 order by 1`,
    [table],
  );
}

test('odd names, other schemas, many vector columns, generated, identity and default columns are taken as they are', async () => {
  await using cluster = await replicatedCluster();
  await cluster.everywhere('create schema if not exists "My ""Shop"""');
  await cluster.everywhere(`create type "My ""Shop""".mood as enum ('good', 'so so')`);
  const table = `"My ""Shop"""."Odd 'Table' $1"`;
  await cluster.query(
    1,
    `create table ${table} (
      "select" bigint generated always as identity (increment by 3) primary key,
      "Title %s" text not null default 'none' check ("Title %s" <> ''),
      length integer generated always as (length("Title %s")) stored,
      seen serial, tags text[] default '{}', mood "My ""Shop""".mood, price numeric(10,2), at timestamptz default now(), doc jsonb,
      dense vector(3), half halfvec(4), sparse sparsevec(10), bits bit(5), any_dimension vector)`,
  );
  await cluster.query(
    1,
    `create index "odd index" on ${table} using hnsw (dense vector_l2_ops) with (m = 8, ef_construction = 40)`,
  );
  await cluster.query(1, `comment on column ${table}."Title %s" is 'it''s'`);
  await cluster.query(
    1,
    `insert into ${table} ("Title %s", tags, mood, price, doc, dense, half, sparse, bits, any_dimension)
     select 'title ' || i, array['a"', null], 'so so', i, '{"a": 1}', array[i, 1, 0]::real[]::vector, '[1,2,3,4]', '{1:1}/10', B'10101', '[1,2]' from generate_series(1, 50) i`,
  );
  const { outcome } = await attachAll(cluster, 'odd', { table });
  expect(outcome).toMatchObject({
    definition: {
      dimension: 3,
      metric: 'l2',
      vectorType: 'vector',
      index: { type: 'hnsw', m: 8, efConstruction: 40 },
      attached: { embedding: 'dense', metadata: 'doc' },
    },
    created: ['n1', 'n3'],
  });
  for (const place of [0, 1, 2])
    await cluster.query(
      place,
      `insert into ${table} ("Title %s", half) select 'from ' || ${place}, '[${place},0,0,0]' from generate_series(1, 5)`,
    );
  await cluster.query(
    2,
    `update ${table} set mood = 'good', "Title %s" = "Title %s" || '!' where bits is not null`,
  );
  await expectSame(cluster, table);
  // Each master draws keys of its own.
  expect(await rowsOf(cluster, 0, table)).toHaveLength(65);
  expect(
    await cluster.query(0, `select count(*)::int as n from ${table} where mood = 'good' and length > 7`),
  ).toEqual([{ n: 50 }]);
}, 120_000);

test('estates that overlap become one: what is equal is shared without being sent, what differs has its later row win, with the other one kept', async () => {
  await using cluster = await replicatedCluster();
  for (const place of [0, 1, 2]) {
    await cluster.query(
      place,
      'create table papers (id integer primary key, title text, v halfvec(2), at timestamptz)',
    );
    await cluster.query(
      place,
      `insert into papers select i, 'title ' || i, '[1,2]', timestamptz '2020-01-01' + i * interval '1 hour' from generate_series(1, 300) i`,
    );
    await cluster.query(place, `insert into papers values (${1000 + place}, 'only here', null, null)`);
    // The row of n2 is the latest, that of n3 has a time that is yet to come on one row and none at all on another.
    await cluster.query(
      place,
      `insert into papers select 2000 + i, 'of n' || ${place + 1}, null, timestamptz '2021-01-01' + interval '1 day' * ${[1, 3, 2][place]} from generate_series(1, 20) i`,
    );
  }
  const { result } = await attachAll(cluster, 'papers', { table: 'public.papers', updatedAtColumn: 'at' });
  expect(result).toMatchObject({ collection: 'papers', same: 300 });
  await expectSame(cluster, 'papers');
  for (const place of [0, 1, 2]) {
    expect(
      await cluster.query(
        place,
        `select title, count(*)::int as n from papers where id > 999 group by 1 order by 1`,
      ),
    ).toEqual([
      { title: 'of n2', n: 20 },
      { title: 'only here', n: 3 },
    ]);
    const kept = await cluster.query<{ title: string; n: number }>(
      place,
      `select loser_row ->> 'title' as title, count(*)::int as n from pgquorum.conflict where state = 'open' group by 1 order by 1`,
    );
    expect(kept).toEqual([
      { title: 'of n1', n: 20 },
      { title: 'of n3', n: 20 },
    ]);
  }
  // What was equal was not written anywhere.
  expect(cluster.edges.every((edge) => edge.counts.written <= 23)).toBe(true);
}, 120_000);

test('a backfill that is stopped again and again goes on where it was, while users write on every master', async () => {
  await using cluster = await replicatedCluster();
  await cluster.query(0, 'create table notes (id bigint primary key, writer integer, n integer, pad text)');
  await cluster.query(
    0,
    `insert into notes select i, i % 3, 0, repeat('p', 2500) from generate_series(1, 900) i`,
  );
  const users = [0, 1, 2].map((place) => new User(cluster, place));
  const working = [users[0]!.work()];
  expect((await attach(cluster, 'notes', { table: 'public.notes' })).created).toEqual(['n2', 'n3']);
  working.push(users[1]!.work(), users[2]!.work());
  const id = await startAttachJob(cluster, 'notes');
  try {
    for (const afterMs of [20, 150, 300]) {
      const stop = new AbortController();
      // Between batches, whenever that is: some are on their way then.
      const timer = setTimeout(() => stop.abort(), afterMs);
      await runAttachJob(cluster, id, { batchRows: 20, stop: stop.signal });
      clearTimeout(timer);
    }
    expect(await runAttachJob(cluster, id, { batchRows: 250 })).toMatchObject({ state: 'done', error: null });
  } finally {
    for (const user of users) user.stop();
    await Promise.all(working);
  }
  await expectSame(cluster, 'notes');
  const rows = await cluster.query<{ id: string; n: number }>(1, 'select id::text, n from notes');
  const found = new Map(rows.map((row) => [row.id, row.n]));
  for (const user of users) {
    expect(user.written.size).toBeGreaterThan(0);
    for (const [key, n] of user.written) expect([key, found.get(key)]).toEqual([key, n]);
  }
  for (const place of [0, 1, 2]) expect(await cluster.query(place, 'select from pgquorum.pause')).toEqual([]);
  for (const place of [0, 1, 2])
    expect(
      await cluster.query(
        place,
        'select from notes t where not exists (select from pgquorum.version_notes v where v.id = t.id and not v.deleted)',
      ),
    ).toEqual([]);
}, 120_000);

/** Changes, deletes and adds rows of its own on one master, one after the other. */
class User {
  /** Key -> the last number written to it; undefined when it was deleted. */
  readonly written = new Map<string, number | undefined>();
  #stopped = false;

  constructor(
    private readonly cluster: TestCluster,
    private readonly place: number,
  ) {}

  stop(): void {
    this.#stopped = true;
  }

  async work(): Promise<void> {
    for (let n = 1; !this.#stopped && n <= 250; n += 1) {
      // Spread over the table, so that they meet the backfill before, in and behind its batches.
      const key = String(((n * 37) % 300) * 3 + this.place || 900);
      if (n % 4 === 0) {
        const gone = await this.cluster.query(this.place, 'delete from notes where id = $1 returning id', [
          key,
        ]);
        // A row that has not come yet can not be deleted.
        if (gone.length > 0) this.written.set(key, undefined);
      } else {
        await this.cluster.query(
          this.place,
          'insert into notes values ($1, $2, $3) on conflict (id) do update set n = excluded.n',
          [key, this.place, n],
        );
        this.written.set(key, n);
      }
      if (n % 10 === 0)
        await this.cluster.query(this.place, 'insert into notes values ($1, $2, $3)', [
          String(1_000_000 + n * 3 + this.place),
          this.place,
          n,
        ]);
    }
  }
}
