/** What may become of a table on one master, and how replication has to take it. Each has a collection of its own name. */
import { expect } from '@jest/globals';
import type { DriftingCluster } from './drifting-cluster.ts';

type Case = (cluster: DriftingCluster, name: string) => Promise<void>;

const put = (cluster: DriftingCluster, place: number, name: string, id: string, set = '') =>
  cluster.sql(
    place,
    `insert into ${name} (id, embedding, metadata) values ($1, '[1,2,3]', '{}') on conflict (id) do update set metadata = jsonb_build_object('by', ${place}::int)${set}`,
    [id],
  );

export const cases: Readonly<Record<string, Case>> = {
  /** Added on one master and written there; the other one writes too, the same keys among others. */
  added: async (cluster, name) => {
    await put(cluster, 0, name, 'both');
    await cluster.settles(name);
    await cluster.sql(0, `alter table ${name} add lang text`);
    await cluster.sql(0, `update ${name} set lang = 'en' where id = 'both'`);
    await cluster.pauses(1, name, /^schema_drift: .*has no column lang here/);
    await cluster.othersGoOn();
    await put(cluster, 1, name, 'both');
    await put(cluster, 1, name, 'other');
    await cluster.sql(0, `insert into ${name} (id, lang) values ('late', 'de')`);
    expect(await cluster.reasons(0, name)).toEqual([]);
    await cluster.sql(1, `alter table ${name} add lang text`);
    const rows = await cluster.settles(name);
    expect(rows).toMatchObject([
      { id: 'both', lang: null, metadata: { by: 1 } },
      { id: 'late', lang: 'de' },
      { id: 'other', lang: null },
    ]);
    // What the write that could not say anything of the column replaced is in a record.
    const [record] = await cluster.sql<{ row: { lang: string } }>(
      1,
      `select loser_row as row from pgquorum.conflict where collection = $1`,
      [name],
    );
    expect(record!.row.lang).toBe('en');
  },

  /** Dropped on one master, with values on the other: those are not wiped out by writes that can not say anything of them. */
  dropped: async (cluster, name) => {
    await cluster.everywhere(`alter table ${name} add lang text`);
    await cluster.sql(0, `insert into ${name} (id, lang) values ('a', 'en'), ('b', null)`);
    await cluster.settles(name);
    await cluster.sql(1, `alter table ${name} drop lang`);
    await put(cluster, 1, name, 'b');
    await put(cluster, 1, name, 'a');
    await put(cluster, 1, name, 'c');
    await cluster.pauses(0, name, /^schema_drift: .*have no column lang .* which holds values here/);
    await cluster.othersGoOn();
    expect((await cluster.rows(0, name))[0]).toEqual({ id: 'a', lang: 'en', metadata: {} });
    await cluster.sql(0, `alter table ${name} drop lang`);
    expect(await cluster.settles(name)).toEqual([
      { id: 'a', metadata: { by: 1 } },
      { id: 'b', metadata: { by: 1 } },
      { id: 'c', metadata: {} },
    ]);
  },

  /** Dropped by mistake and added again: what the masters hold differs by what was lost there, until somebody writes it. */
  addedAgain: async (cluster, name) => {
    await cluster.everywhere(`alter table ${name} add lang text`);
    await cluster.sql(0, `insert into ${name} (id, lang) values ('a', 'en')`);
    await cluster.settles(name);
    await cluster.sql(1, `alter table ${name} drop lang`);
    await put(cluster, 1, name, 'a');
    await cluster.pauses(0, name, /holds values here/);
    await cluster.sql(0, `insert into ${name} (id, lang) values ('b', 'de')`);
    await cluster.pauses(1, name, /has no column lang here/);
    await cluster.sql(1, `alter table ${name} add lang text`);
    expect(await cluster.settles(name)).toEqual([
      { id: 'a', lang: null, metadata: { by: 1 } },
      { id: 'b', lang: 'de', metadata: {} },
    ]);
  },

  /** Of another type on both masters, while changes of the old one are on their way. */
  retyped: async (cluster, name) => {
    await cluster.everywhere(`alter table ${name} add n integer`);
    await cluster.sql(0, `insert into ${name} (id, n) values ('before', 1)`);
    await cluster.settles(name);
    await cluster.sql(0, `alter table ${name} alter n type bigint`);
    await cluster.sql(0, `insert into ${name} (id, n) values ('large', 5000000000)`);
    await cluster.pauses(1, name, /^schema_drift: column n of .* is int4 here and int8 on its origin/);
    await cluster.sql(1, `insert into ${name} (id, n) values ('old', 2)`);
    await cluster.pauses(0, name, /column n of .* is int8 here and int4 on its origin/);
    await cluster.othersGoOn();
    await cluster.sql(1, `alter table ${name} alter n type bigint`);
    expect(await cluster.settles(name)).toMatchObject([
      { id: 'before', n: 1 },
      { id: 'large', n: 5000000000 },
      { id: 'old', n: 2 },
    ]);
  },

  renamed: async (cluster, name) => {
    await cluster.everywhere(`alter table ${name} add lang text`);
    await cluster.sql(0, `insert into ${name} (id, lang) values ('a', 'en')`);
    await cluster.settles(name);
    await cluster.sql(0, `alter table ${name} rename lang to language`);
    await cluster.sql(0, `insert into ${name} (id, language) values ('b', 'de')`);
    await cluster.sql(1, `update ${name} set lang = 'fr' where id = 'a'`);
    await cluster.pauses(1, name, /has no column language here/);
    await cluster.pauses(0, name, /has no column lang here/);
    await cluster.othersGoOn();
    await cluster.sql(1, `alter table ${name} rename lang to language`);
    expect(await cluster.settles(name)).toMatchObject([
      { id: 'a', language: 'fr' },
      { id: 'b', language: 'de' },
    ]);
  },

  /** Rows that come from a master without the column get the default, as they do there when it is added. */
  addedWithDefault: async (cluster, name) => {
    await put(cluster, 1, name, 'old');
    await cluster.settles(name);
    await cluster.sql(0, `alter table ${name} add n integer not null default 7`);
    await put(cluster, 1, name, 'old');
    await put(cluster, 1, name, 'new');
    await cluster.sql(0, `insert into ${name} (id) values ('mine')`);
    await cluster.pauses(1, name, /has no column n here/);
    await cluster.othersGoOn();
    expect(await cluster.reasons(0, name)).toEqual([]);
    await cluster.sql(1, `alter table ${name} add n integer not null default 7`);
    expect(await cluster.settles(name)).toMatchObject([
      { id: 'mine', n: 7 },
      { id: 'new', n: 7 },
      { id: 'old', n: 7 },
    ]);
  },

  /** A default that each row, or each master, has anew is nothing that both could agree on. */
  addedWithOwnDefault: async (cluster, name) => {
    await cluster.sql(0, `alter table ${name} add made timestamptz default clock_timestamp()`);
    await put(cluster, 1, name, 'a');
    await cluster.pauses(0, name, /have no column made .* whose default here is another one on each master/);
    await cluster.othersGoOn();
    await cluster.sql(1, `alter table ${name} add made timestamptz default clock_timestamp()`);
    await cluster.settles(name);
  },

  /** Rows from a master without the column can not be completed: they wait and are no dead letters. */
  notNull: async (cluster, name) => {
    await cluster.sql(0, `alter table ${name} add n integer not null`);
    await put(cluster, 1, name, 'a');
    await cluster.pauses(0, name, /have no column n of .*, which may not be null here/);
    await cluster.othersGoOn();
    await cluster.sql(1, `alter table ${name} add n integer`);
    await cluster.sql(1, `update ${name} set n = 1`);
    await cluster.sql(1, `alter table ${name} alter n set not null`);
    expect(await cluster.settles(name)).toMatchObject([{ id: 'a', n: 1 }]);
  },

  /** Computed values are not sent: each master computes its own. A column that is computed on one and written on the other is drift. */
  generated: async (cluster, name) => {
    const expression = `text generated always as (metadata ->> 'lang') stored`;
    await cluster.sql(0, `alter table ${name} add lang ${expression}`);
    await cluster.sql(0, `insert into ${name} (id, metadata) values ('a', '{"lang":"en"}')`);
    await cluster.sql(1, `insert into ${name} (id, metadata) values ('b', '{"lang":"de"}')`);
    await cluster.othersGoOn();
    await cluster.sql(1, `alter table ${name} add lang text`);
    await cluster.sql(1, `insert into ${name} (id, lang) values ('c', 'it')`);
    await cluster.pauses(0, name, /column lang of .* is generated here and written on its origin/);
    await cluster.sql(1, `alter table ${name} drop lang, add lang ${expression}`);
    expect(await cluster.settles(name)).toMatchObject([
      { id: 'a', lang: 'en' },
      { id: 'b', lang: 'de' },
      { id: 'c', lang: null },
    ]);
  },
};
