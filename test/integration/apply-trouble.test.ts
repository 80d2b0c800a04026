/** Changes that can not be applied: their collection waits or they are kept aside, and the stream goes on. */
import { expect, test } from '@jest/globals';
import { once } from 'node:events';
import type { LogBatch } from '#core/changelog/change.ts';
import type { ChangeLogReader } from '#core/changelog/port.ts';
import { changeCodec } from '#core/changelog/schema.files.ts';
import { foundTestCluster, type TestCluster } from '#core/testing/cluster.pg.ts';
import { SlotReading } from '#core/testing/slot-reading.pg.ts';
import { dropCollection } from '#core/collections/catalog.pg.ts';
import type { NodeNumber } from '#core/versioning/version.ts';
import { eventually } from '#core/testing/wait.process.ts';

const ids = async (cluster: TestCluster, place: number, collection: string): Promise<string[]> =>
  (await cluster.query<{ id: string }>(place, `select id from ${collection} order by id`)).map(
    (row) => row.id,
  );
const pauses = (cluster: TestCluster, place = 1) =>
  cluster.query<{ collection: string; code: string; sqlstate: string | null; reason: string }>(
    place,
    'select collection, code, sqlstate, reason from pgquorum.pause',
  );
const parked = async (cluster: TestCluster, place = 1): Promise<number> =>
  (await cluster.query(place, 'select from pgquorum.parked')).length;
const deadLetters = (cluster: TestCluster, place = 1) =>
  cluster.query<{
    collection: string;
    key: string;
    sqlstate: string;
    payload: Buffer;
    position: string;
    message: string;
  }>(
    place,
    'select collection, key, sqlstate, payload, position::text, message from pgquorum.dead_letter order by id',
  );
const unpaused = (cluster: TestCluster) =>
  eventually(
    'nothing waits any more',
    async () => (await pauses(cluster)).length === 0 && (await parked(cluster)) === 0,
  );

const expectAlike = async (cluster: TestCluster, collection: string) => {
  const [one, two] = await cluster.states(collection);
  expect(two).toEqual(one);
};

test('a column that is missing on the target pauses that collection only; nothing is lost, and it goes on by itself', async () => {
  await using cluster = await foundTestCluster({ count: 2, collections: ['drifting', 'steady'] });
  cluster.replicate();
  await cluster.query(0, `alter table drifting add lang text`);
  await cluster.query(
    0,
    `insert into drifting values ('a', '[1,2,3]', '{}', 'en'), ('b', '[1,2,3]', '{}', 'de')`,
  );
  await cluster.query(0, `insert into steady values ('a', '[1,2,3]')`);
  await cluster.caughtUp();
  expect(await pauses(cluster)).toEqual([
    {
      collection: 'drifting',
      code: 'schema_drift',
      sqlstate: null,
      reason: expect.stringContaining('has no column lang here'),
    },
  ]);
  expect(await ids(cluster, 1, 'steady')).toEqual(['a']);
  await cluster.query(0, `update drifting set lang = 'fr' where id = 'a'; `);
  await cluster.query(0, `delete from drifting where id = 'b'`);
  await cluster.query(0, `insert into steady values ('b', '[1,2,3]')`);
  await cluster.caughtUp();
  expect(await ids(cluster, 1, 'steady')).toEqual(['a', 'b']);
  expect(await ids(cluster, 1, 'drifting')).toEqual([]);
  expect(await parked(cluster)).toBe(4);
  // The other way it never stopped.
  await cluster.query(1, `insert into steady values ('c', '[1,2,3]')`);
  // Kept over a restart of the replicator.
  await cluster.stopEdges();
  cluster.replicate();
  await cluster.query(0, `insert into drifting values ('c', '[1,2,3]', '{}', 'en')`);
  await cluster.caughtUp();
  expect(await parked(cluster)).toBe(5);
  await cluster.query(1, 'alter table drifting add lang text');
  await unpaused(cluster);
  await cluster.query(0, `insert into drifting values ('d', '[1,2,3]', '{}', 'it')`);
  await cluster.caughtUp();
  await expectAlike(cluster, 'drifting');
  expect(await ids(cluster, 1, 'drifting')).toEqual(['a', 'c', 'd']);
  expect(await pauses(cluster)).toEqual([]);
}, 120_000);

test('a column of another type on the target pauses its collection until it is the same', async () => {
  await using cluster = await foundTestCluster({ count: 2, collections: ['docs'] });
  cluster.replicate();
  await cluster.query(0, 'alter table docs add n bigint');
  await cluster.query(1, 'alter table docs add n integer');
  await cluster.query(0, `insert into docs (id, n) values ('a', 5000000000)`);
  await cluster.caughtUp();
  expect(await pauses(cluster)).toMatchObject([
    {
      code: 'schema_drift',
      reason: expect.stringMatching(/column n of public.docs is int4 here and int8 on its origin/),
    },
  ]);
  await cluster.query(1, 'alter table docs alter n type bigint');
  await unpaused(cluster);
  await expectAlike(cluster, 'docs');
}, 120_000);

test('a row that the target refuses becomes a dead letter with its payload, and the stream goes on', async () => {
  await using cluster = await foundTestCluster({ count: 2, collections: ['docs', 'others'] });
  cluster.replicate();
  await cluster.query(1, `alter table docs add constraint small check ((metadata ->> 'n')::int < 10)`);
  await cluster.query(
    0,
    `insert into docs values ('a', '[1,2,3]', '{"n":1}'), ('poison', '[4,5,6]', '{"n":11}'), ('z', '[1,2,3]', '{"n":2}')`,
  );
  await cluster.query(0, `insert into docs values ('later', '[1,2,3]', '{"n":3}')`);
  await cluster.query(0, `insert into others values ('a', '[1,2,3]')`);
  await cluster.caughtUp();
  expect(await ids(cluster, 1, 'docs')).toEqual(['a', 'later', 'z']);
  expect(await ids(cluster, 1, 'others')).toEqual(['a']);
  expect(await pauses(cluster)).toEqual([]);
  const [letter, ...more] = await deadLetters(cluster);
  expect(more).toEqual([]);
  expect(letter).toMatchObject({
    collection: 'docs',
    key: 'poison',
    sqlstate: '23514',
    message: expect.stringContaining('small'),
  });
  expect(BigInt(letter!.position)).toBeGreaterThan(0n);
  const { change } = changeCodec().decode(letter!.payload, 'application/protobuf');
  expect(change).toMatchObject({ kind: 'write', key: ['poison'], version: { dot: { origin: 1 } } });
  // A later version of the key that fits is applied.
  await cluster.query(0, `update docs set metadata = '{"n":4}' where id = 'poison'`);
  await cluster.caughtUp();
  await expectAlike(cluster, 'docs');
}, 120_000);

test('a row that a unique index refuses waits for the other one to move, and is a dead letter when that never does', async () => {
  await using cluster = await foundTestCluster({ count: 2, collections: ['docs'] });
  await cluster.everywhere('alter table docs add slug text unique');
  cluster.replicate();
  await cluster.query(1, `insert into docs (id, slug) values ('theirs', 'x')`);
  await cluster.caughtUp();
  await cluster.query(0, `delete from docs where id = 'theirs'`);
  await cluster.query(0, `insert into docs (id, slug) values ('ours', 'x')`);
  await cluster.caughtUp();
  // Different lanes may bring these in the other order: no letter, whatever the order was.
  await unpaused(cluster);
  await expectAlike(cluster, 'docs');
  // Two masters give one slug to two rows: neither can move.
  await cluster.stopEdges();
  await cluster.query(0, `insert into docs (id, slug) values ('one', 'same')`);
  await cluster.query(1, `insert into docs (id, slug) values ('two', 'same')`);
  cluster.replicate();
  await cluster.query(0, `insert into docs (id) values ('after')`);
  await cluster.caughtUp();
  expect(await ids(cluster, 1, 'docs')).toEqual(['after', 'ours', 'two']);
  expect(await parked(cluster)).toBe(1);
  expect(await deadLetters(cluster)).toEqual([]);
  // Its time is over at once instead of in a minute.
  await cluster.query(1, `update pgquorum.parked set at = at - interval '10 minutes'`);
  const [letter] = await eventually('the dead letter', async () => {
    const found = await deadLetters(cluster);
    return found.length > 0 && found;
  });
  expect(letter).toMatchObject({
    key: 'one',
    sqlstate: '23505',
    message: expect.stringMatching(
      /"docs_slug_key": the row with key "two" is here already, and that with key "one" came$/,
    ),
  });
  // On the other master it frees its slug: there the waiting row arrives.
  await cluster.query(0, `update docs set slug = 'other' where id = 'one'`);
  await cluster.caughtUp();
  await eventually('it arrived', async () => (await ids(cluster, 0, 'docs')).includes('two'));
  await eventually(
    'the masters agree',
    async () =>
      JSON.stringify(await cluster.state(0, 'docs')) === JSON.stringify(await cluster.state(1, 'docs')),
  );
}, 120_000);

test('a row whose foreign key waits for the parent arrives with it', async () => {
  await using cluster = await foundTestCluster({ count: 2, collections: ['parents', 'docs'] });
  await cluster.everywhere('alter table docs add parent text references parents');
  cluster.edge(0, 1, { lanes: 1, batchSize: 1 });
  const held = await cluster.client(1);
  await held.query(`begin; insert into parents values ('p', '[9,9,9]')`); // the parent can not arrive while this is open
  await cluster.query(0, `insert into parents values ('p', '[1,2,3]')`);
  await cluster.query(0, `insert into docs (id, parent) values ('child', 'p')`);
  await cluster.caughtUp();
  expect(await ids(cluster, 1, 'docs')).toEqual([]);
  await held.query('rollback');
  await unpaused(cluster);
  expect(await ids(cluster, 1, 'docs')).toEqual(['child']);
  expect(await deadLetters(cluster)).toEqual([]);
}, 120_000);

test('permission lost on the target pauses the collection, and it goes on when it is back', async () => {
  await using cluster = await foundTestCluster({ count: 2, collections: ['docs', 'others'] });
  cluster.replicate();
  await cluster.asSuper(1, `alter table docs owner to postgres; revoke all on docs from pgquorum`);
  await cluster.query(0, `insert into docs values ('a', '[1,2,3]')`);
  await cluster.query(0, `insert into others values ('a', '[1,2,3]')`);
  await cluster.caughtUp();
  expect(await pauses(cluster)).toMatchObject([{ collection: 'docs', sqlstate: '42501' }]);
  expect(await ids(cluster, 1, 'others')).toEqual(['a']);
  await cluster.asSuper(1, `alter table docs owner to pgquorum`);
  await unpaused(cluster);
  await expectAlike(cluster, 'docs');
}, 120_000);

const changingTrigger = (event: string, body: string) => `
  create function public.meddle() returns trigger language plpgsql as $$ begin ${body} end $$;
  create trigger meddle ${event} on docs for each row execute function public.meddle()`;

test.each([
  ['changes a row', 'before insert or update', `new.metadata = '{"meddled": true}'; return new;`],
  ['drops a row', 'before insert', 'return null;'],
  ['keeps a row from being deleted', 'before delete', 'return null;'],
])(
  'without the privilege to silence it, a trigger that %s is reported as drift',
  async (_what, event, body) => {
    await using cluster = await foundTestCluster({ count: 2, collections: ['docs', 'others'] });
    cluster.edge(0, 1);
    await cluster.query(0, `insert into docs values ('old', '[1,2,3]', '{"n":0}')`);
    await cluster.caughtUp();
    await cluster.query(1, changingTrigger(event, body));
    await cluster.query(0, `insert into docs values ('new', '[1,2,3]', '{"n":1}')`);
    await cluster.query(0, `delete from docs where id = 'old'`);
    await cluster.query(0, `insert into others values ('a', '[1,2,3]')`);
    await cluster.caughtUp();
    expect(await pauses(cluster)).toMatchObject([
      {
        collection: 'docs',
        code: 'schema_drift',
        reason: expect.stringContaining('a trigger on public.docs'),
      },
    ]);
    expect(await ids(cluster, 1, 'others')).toEqual(['a']);
    await cluster.query(1, 'drop trigger meddle on docs');
    await unpaused(cluster);
    await expectAlike(cluster, 'docs');
  },
  60_000,
);

test('a trigger beside a column that is an array is found out too', async () => {
  await using cluster = await foundTestCluster({ count: 2, collections: ['docs'] });
  await cluster.everywhere('alter table docs add tags text[]');
  await cluster.query(1, changingTrigger('before insert', `new.tags = array['meddled']; return new;`));
  cluster.edge(0, 1);
  await cluster.query(0, `insert into docs values ('a', '[1,2,3]', '{}', '{x,y}')`);
  await cluster.caughtUp();
  expect(await pauses(cluster)).toMatchObject([{ collection: 'docs', code: 'schema_drift' }]);
}, 120_000);

test.each([18, 16] as const)(
  'with the privilege on Postgres %i neither triggers nor cascades of users run during apply',
  async (major) => {
    await using cluster = await foundTestCluster({
      count: 2,
      major,
      originPrivileges: true,
      collections: ['parents', 'docs'],
    });
    await cluster.everywhere('alter table docs add parent text references parents on delete cascade');
    await cluster.query(
      1,
      changingTrigger('before insert or update or delete', `raise exception 'fired during apply';`),
    );
    cluster.replicate();
    await cluster.query(0, `insert into parents values ('p', '[1,2,3]')`);
    await cluster.query(0, `insert into docs (id, parent) values ('child', 'p'), ('stays', null)`);
    await cluster.query(0, `update docs set metadata = '{"n":1}'`);
    await cluster.query(0, `delete from parents`);
    await cluster.caughtUp();
    expect(await ids(cluster, 1, 'docs')).toEqual(['stays']);
    for (const collection of ['docs', 'parents']) await expectAlike(cluster, collection);
    expect(await pauses(cluster)).toEqual([]);
    expect(await deadLetters(cluster)).toEqual([]);
    expect(await cluster.query(0, 'select from pgquorum.conflict')).toEqual([]);
  },
  60_000,
);

test('without the privilege cascades run during apply too, and the masters agree all the same', async () => {
  await using cluster = await foundTestCluster({ count: 2, collections: ['parents', 'docs'] });
  await cluster.everywhere('alter table docs add parent text references parents on delete cascade');
  cluster.replicate({ lanes: 4 });
  for (let round = 0; round < 3; round += 1) {
    await cluster.query(0, `insert into parents select 'p' || i, '[1,2,3]' from generate_series(1, 20) i`);
    await cluster.query(
      0,
      `insert into docs (id, parent) select 'c' || i, 'p' || (1 + i % 20) from generate_series(1, 60) i`,
    );
    await cluster.query(0, `delete from parents`);
  }
  await cluster.caughtUp();
  await unpaused(cluster);
  await eventually('the masters agree', async () => {
    await cluster.caughtUp();
    return JSON.stringify(await cluster.state(0, 'docs')) === JSON.stringify(await cluster.state(1, 'docs'));
  });
  await expectAlike(cluster, 'parents');
  expect(await ids(cluster, 1, 'docs')).toEqual([]);
  expect(await deadLetters(cluster)).toEqual([]);
}, 120_000);

/** A log that holds what was read before, and nothing more. */
const replay = (batches: readonly LogBatch[], origin: NodeNumber): ChangeLogReader => ({
  origin,
  async *read({ signal }) {
    yield* batches;
    await once(signal, 'abort');
  },
  confirm: () => undefined,
  positions: () => Promise.resolve(new Map()),
  close: () => Promise.resolve(),
});

test('changes of a collection that was dropped meanwhile stop nothing, and never reach its successor', async () => {
  await using cluster = await foundTestCluster({ count: 2, collections: ['docs', 'others'] });
  const addresses = cluster.nodes.map((node) => node.address);
  await using reading = await SlotReading.start(cluster);
  await cluster.query(0, `insert into docs select 'old' || i, '[1,2,3]' from generate_series(1, 50) i`);
  await cluster.query(0, `delete from docs where id = 'old1'`);
  await cluster.query(
    0,
    `begin; insert into docs values ('both', '[1,2,3]'); insert into others values ('both', '[1,2,3]'); commit`,
  );
  await reading.until('all of it', ({ writes }) => writes.length === 53);
  await reading.stop();
  const late = { openReader: () => Promise.resolve(replay(reading.batches, cluster.nodes[0]!.number)) };
  await dropCollection({ nodes: addresses, name: 'docs' });
  // On their way when the collection was dropped.
  let edge = cluster.edge(0, 1, late);
  await eventually(
    'the other collection got its row',
    async () => (await ids(cluster, 1, 'others')).length === 1,
  );
  await eventually(
    'all of it was taken',
    async () =>
      (
        await cluster.query(1, 'select from pgquorum.progress having min(position) >= $1', [
          String(reading.position),
        ])
      ).length === 1,
  );
  expect(await pauses(cluster)).toEqual([]);
  expect(await parked(cluster)).toBe(0);
  await cluster.stopEdges();
  // The same after the name was given to another collection, with other shards.
  await cluster.create('docs', { shards: 2 });
  await cluster.query(1, `insert into docs values ('mine', '[1,2,3]')`);
  edge = cluster.edge(0, 1, late);
  await eventually('the batches were applied', () => edge.counts.skipped > 0);
  await cluster.stopEdges();
  expect(await ids(cluster, 1, 'docs')).toEqual(['mine']);
  expect(await cluster.query(1, 'select id from pgquorum.version_docs')).toEqual([{ id: 'mine' }]);
  cluster.replicate();
  await cluster.query(0, `insert into docs values ('new', '[1,2,3]')`);
  await cluster.caughtUp();
  await expectAlike(cluster, 'docs');
  expect(await ids(cluster, 0, 'docs')).toEqual(['mine', 'new']);
  expect(await pauses(cluster)).toEqual([]);
}, 120_000);

test('a collection that was never written is no earlier one: the first write of its successor counts', async () => {
  await using cluster = await foundTestCluster({ count: 2, collections: ['docs'] });
  await dropCollection({ nodes: cluster.nodes.map((node) => node.address), name: 'docs' });
  await cluster.create('docs');
  cluster.replicate();
  await cluster.query(0, `insert into docs values ('first', '[1,2,3]')`);
  await cluster.caughtUp();
  expect(await ids(cluster, 1, 'docs')).toEqual(['first']);
}, 120_000);
