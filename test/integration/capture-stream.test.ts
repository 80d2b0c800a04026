/** One slot as a stream: one reader, nothing confirmed that is not held, nothing lost without being said. */
import { expect, test } from '@jest/globals';
import { randomBytes } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import { lsnFromText } from '#core/capture/lsn.ts';
import type { WriteChange } from '#core/changelog/change.ts';
import { dropCollection } from '#core/collections/catalog.pg.ts';
import { isPgquorumError } from '#core/errors/error.ts';
import { foundOn, foundTestCluster, type TestCluster } from '#core/testing/cluster.pg.ts';
import { startMasters } from '#core/testing/masters.pg.ts';
import { columnOf, SlotReading, startOf } from '#core/testing/slot-reading.pg.ts';
import { eventually } from '#core/testing/wait.process.ts';

const codeOf = (cause: unknown): string => (isPgquorumError(cause) ? cause.code : String(cause));

const confirmed = async (cluster: TestCluster): Promise<bigint> => {
  const [row] = await cluster.query<{ lsn: string }>(
    0,
    `select confirmed_flush_lsn::text as lsn from pg_replication_slots where slot_name = $1`,
    [`pgquorum_${cluster.cluster}_1_2`],
  );
  return lsnFromText(row!.lsn);
};

const problem = async (cluster: TestCluster): Promise<string | null> =>
  (
    await cluster.query<{ problem: string | null }>(1, 'select problem from pgquorum.source where origin = 1')
  )[0]!.problem;

test('a second reader of a slot is refused, and an edge, which alone may read it, ends whoever is left there', async () => {
  await using cluster = await foundTestCluster({ count: 2, collections: ['docs'] });
  const first = await SlotReading.start(cluster);
  await cluster.query(0, `insert into docs values ('a', '[1,2,3]')`);
  await first.until('the first write', ({ writes }) => writes.length === 1);
  const second = await SlotReading.start(cluster, { sole: false });
  expect(codeOf(await eventually('the refusal', () => second.failure))).toBe('slot_in_use');
  expect(first.failure).toBeNull();
  const edge = cluster.edge(0, 1);
  await eventually('the first reader was ended', () => first.failure);
  await cluster.caughtUp();
  expect(await cluster.state(1, 'docs')).toEqual(await cluster.state(0, 'docs'));
  expect(await problem(cluster)).toBeNull();
  expect(edge.failures).toEqual([]);
}, 120_000);

test('a slot that is gone, or made anew under the same name, is position_lost and shown', async () => {
  await using cluster = await foundTestCluster({ count: 2, collections: ['docs'] });
  const slot = `pgquorum_${cluster.cluster}_1_2`;
  await cluster.query(0, `insert into docs values ('a', '[1,2,3]')`);
  await cluster.query(0, 'select pg_drop_replication_slot($1)', [slot]);
  const edge = cluster.edge(0, 1);
  await eventually('the lost slot is shown', async () =>
    (await problem(cluster))?.startsWith(`position_lost: slot ${slot} is missing`),
  );
  await cluster.query(0, `select pg_create_logical_replication_slot($1, 'pgoutput')`, [slot]);
  await eventually('the other slot is shown', async () =>
    (await problem(cluster))?.includes('it was made anew'),
  );
  await cluster.query(0, `insert into docs values ('b', '[1,2,3]')`);
  await delay(300);
  expect(await cluster.query(1, 'select id from docs')).toEqual([]);
  expect(new Set(edge.failures.map(codeOf))).toEqual(new Set(['position_lost']));
  expect(
    await cluster.query(1, 'select problem_since is not null as told from pgquorum.source where origin = 1'),
  ).toEqual([{ told: true }]);
}, 120_000);

test('a slot of another plugin or database is not taken for ours', async () => {
  await using cluster = await foundTestCluster({ count: 2, collections: ['docs'] });
  const slot = `pgquorum_${cluster.cluster}_1_2`;
  await cluster.query(0, 'select pg_drop_replication_slot($1)', [slot]);
  await cluster.query(1, `select pg_create_logical_replication_slot($1, 'pgoutput')`, [slot]);
  await using reading = await SlotReading.start(cluster);
  expect(await eventually('the refusal', () => reading.failure)).toMatchObject({
    code: 'position_lost',
    detail: expect.stringContaining('belongs to another database'),
  });
}, 120_000);

test.each([18, 16] as const)(
  'a publication that was dropped and remade on Postgres %i is position_lost: what was written meanwhile was skipped',
  async (major) => {
    await using cluster = await foundTestCluster({ count: 2, major, collections: ['docs'] });
    cluster.edge(0, 1);
    await cluster.query(0, `insert into docs values ('a', '[1,2,3]')`);
    await cluster.caughtUp();
    // While the stream runs, and no restart would look at it.
    await cluster.query(0, 'drop publication pgquorum');
    await cluster.query(0, `insert into docs values ('lost', '[1,2,3]')`);
    await cluster.query(
      0,
      `create publication pgquorum for table pgquorum.heartbeat, pgquorum.conflict, docs, pgquorum.version_docs with (publish = 'insert, update')`,
    );
    await cluster.query(0, `insert into docs values ('later', '[1,2,3]')`);
    // 16 ends the stream first, and says so; 18 goes on.
    await eventually('the loss is shown', async () => {
      await cluster.query(0, 'update pgquorum.heartbeat set at = clock_timestamp()');
      return (await problem(cluster))?.startsWith('position_lost');
    });
    await cluster.stopEdges();
    cluster.edge(0, 1);
    await eventually('it is shown after a restart too', async () =>
      (await problem(cluster))?.includes('was made for another publication'),
    );
  },
  60_000,
);

test('a table that was taken out of the publication is position_lost', async () => {
  await using cluster = await foundTestCluster({ count: 2, collections: ['docs', 'others'] });
  cluster.edge(0, 1);
  await cluster.query(0, `insert into docs values ('a', '[1,2,3]')`);
  await cluster.caughtUp();
  await cluster.query(0, 'alter publication pgquorum drop table docs');
  const shown = async () => {
    await cluster.query(0, 'update pgquorum.heartbeat set at = clock_timestamp()');
    return problem(cluster);
  };
  expect(await eventually('the loss is shown', shown)).toMatch(/position_lost.* does not get public\.docs/);
}, 120_000);

test('a commit that begins exactly at the confirmed position is delivered after a restart', async () => {
  await using masters = await startMasters({ count: 2, settings: { autovacuum: 'off' } });
  await using cluster = await foundOn(masters.nodes, { cluster: 'exact', collections: ['docs'] });
  const [one, two] = [await cluster.client(0), await cluster.client(0)];
  let round = 0;
  let from: bigint | undefined;
  const adjacent = async () => {
    round += 1;
    const reading = await SlotReading.start(cluster, { from });
    await one.query(`begin; insert into docs values ('one${round}', '[1,2,3]')`);
    await two.query(`begin; insert into docs values ('two${round}', '[1,2,3]')`);
    await Promise.all([one.query('commit'), two.query('commit')]);
    const [first, second] = await reading.until('both', ({ batches }) => {
      const found = batches.filter((batch) =>
        batch.changes.some(
          (change) => change.kind === 'write' && [`one${round}`, `two${round}`].includes(change.key[0]!),
        ),
      );
      return found.length === 2 && found;
    });
    return { reading, first: first!, second: second! };
  };
  // The commit record of the second directly behind that of the first: nothing else writes here, so this takes a try or two.
  let found = await adjacent();
  while (found.second.commitLsn !== found.first.position) {
    from = found.second.position!;
    found.reading.log.confirm(0, from);
    await found.reading.stop();
    if (round > 200) throw new Error('no two commits were adjacent');
    found = await adjacent();
  }
  const held = found.first.position!;
  found.reading.log.confirm(0, held);
  await eventually('the server has it', async () => (await confirmed(cluster)) === held);
  await found.reading.stop();
  expect(await confirmed(cluster)).toBe(held);
  await using again = await SlotReading.start(cluster, { from: held });
  const next = await again.until('a write', ({ writes }) => writes[0]);
  expect(next.key).toEqual([(found.second.changes[0] as WriteChange).key[0]]);
}, 120_000);

test('the server is never told more than was confirmed, also by its own questions and at the end', async () => {
  await using masters = await startMasters({ count: 2, settings: { wal_sender_timeout: '1s' } });
  await using cluster = await foundOn(masters.nodes, { cluster: 'told', collections: ['docs'] });
  const before = await confirmed(cluster);
  const reading = await SlotReading.start(cluster);
  for (let n = 0; n < 20; n += 1)
    await cluster.query(0, `insert into docs values ($1, '[1,2,3]')`, [`k${n}`]);
  await reading.until('all', ({ writes }) => writes.length === 20);
  await delay(1500); // the server asks for a sign of life meanwhile
  expect(reading.failure).toBeNull();
  expect(await confirmed(cluster)).toBe(before);
  const tenth = reading.batches.filter((batch) => batch.changes.length > 0)[9]!;
  reading.log.confirm(0, tenth.position!);
  reading.log.confirm(0, before); // it only advances
  await eventually('the server has it', async () => (await confirmed(cluster)) === tenth.position);
  await reading.stop();
  expect(await confirmed(cluster)).toBe(tenth.position);
  await using again = await SlotReading.start(cluster, { from: tenth.position! });
  await again.until('the rest', ({ writes }) => writes.length === 10);
  expect(again.writes.map((change) => change.key[0])).toEqual(
    Array.from({ length: 10 }, (_, n) => `k${n + 10}`),
  );
}, 120_000);

test('unrelated WAL does not hold the slot back, nor does it reach the peer', async () => {
  await using masters = await startMasters({ count: 2 });
  await using cluster = await foundOn(masters.nodes, { cluster: 'unrelated', collections: ['docs'] });
  const edge = cluster.edge(0, 1);
  await cluster.query(0, `insert into docs values ('a', '[1,2,3]')`);
  await cluster.caughtUp();
  await cluster.query(
    0,
    'create table public.unrelated as select i, repeat($$x$$, 200) as filler from generate_series(1, 20000) i',
  );
  // Also of another database of the server: the slot sees it go by and nothing of what is in it.
  await cluster.asSuper(0, 'create database elsewhere');
  const elsewhere = new URL(cluster.masters[0]!.superUrl);
  elsewhere.pathname = '/elsewhere';
  const stranger = await cluster.client(0, { url: elsewhere.href });
  await stranger.query(
    'create table busy as select i, repeat($$x$$, 200) as filler from generate_series(1, 20000) i',
  );
  const [written] = await cluster.query<{ lsn: string }>(0, 'select pg_current_wal_flush_lsn()::text as lsn');
  await eventually(
    'the slot is confirmed beyond it',
    async () => (await confirmed(cluster)) >= lsnFromText(written!.lsn),
    { withinMs: 15_000 },
  );
  // What the server keeps goes too: a checkpoint logs what runs, and behind that nothing has to be decoded again.
  await eventually('the server keeps less than what was written', async () => {
    await cluster.asSuper(0, 'checkpoint');
    const [slot] = await cluster.query<{ reached: boolean }>(
      0,
      'select bool_and(restart_lsn >= $1::pg_lsn) as reached from pg_replication_slots where active',
      [written!.lsn],
    );
    return slot!.reached;
  });
  await eventually('the peer has noted it', async () => {
    const [row] = await cluster.query<{ at: string }>(
      1,
      `select min(position)::text as at from pgquorum.progress where origin = 1`,
    );
    return BigInt(row!.at) >= lsnFromText(written!.lsn);
  });
  expect(edge.counts.written).toBe(1);
  expect(edge.failures).toEqual([]);
}, 120_000);

test('rows of all sizes arrive byte for byte while many wait', async () => {
  await using cluster = await foundTestCluster({ count: 2 });
  await cluster.create('docs', { dimension: 16 });
  await cluster.query(0, 'alter table docs add raw bytea');
  await cluster.query(0, 'alter table docs alter raw set storage external');
  const rows = new Map<string, Buffer>();
  const sizes = [0, 1, 7, 100, 1000, 1999, 2001, 5000, 8191, 65_535, 65_536, 70_000, 300_000];
  for (let n = 0; n < 400; n += 1)
    rows.set(`k${n}`, randomBytes(n % 40 === 0 ? sizes[(n / 40) % sizes.length]! : (n * 37) % 3000));
  sizes.forEach((size, n) => rows.set(`s${n}`, randomBytes(size)));
  await Promise.all(
    [0, 1].map(async (writer) => {
      let n = 0;
      for (const [key, raw] of rows)
        if (n++ % 2 === writer)
          await cluster.query(0, `insert into docs values ($1, null, '{}', $2)`, [key, raw]);
    }),
  );
  await using reading = await SlotReading.start(cluster);
  await delay(300); // they wait in the stream's queue, beyond what the driver keeps
  await reading.until('all', ({ writes }) => writes.length === rows.size);
  for (const change of reading.writes) {
    const key = change.key[0]!;
    expect(columnOf(change, 'id')!.toString()).toBe(key);
    if (!columnOf(change, 'raw')!.equals(rows.get(key)!)) throw new Error(`${key} came with other bytes`);
  }
  expect(reading.failure).toBeNull();
}, 120_000);

test('many small transactions keep their order', async () => {
  await using cluster = await foundTestCluster({ count: 2, collections: ['docs'] });
  await using reading = await SlotReading.start(cluster);
  await Promise.all(
    [0, 1, 2, 3].map(async (writer) => {
      for (let n = 0; n < 250; n += 1)
        await cluster.query(
          0,
          `insert into docs values ($1, '[1,2,3]', $2) on conflict (id) do update set metadata = excluded.metadata`,
          [`k${(n * 7 + writer) % 40}`, JSON.stringify({ writer, n })],
        );
    }),
  );
  await reading.until('all', ({ writes }) => writes.length === 1000);
  const counters = new Map<string, number>();
  for (const { key, version } of reading.writes) {
    expect(version.dot.counter).toBeGreaterThan(counters.get(key[0]!) ?? 0);
    counters.set(key[0]!, version.dot.counter);
  }
  const positions = reading.batches.map((batch) => batch.position!);
  expect(positions.every((position, at) => at === 0 || position >= positions[at - 1]!)).toBe(true);
  // Commit order: LSNs of commits only grow, whatever the order in which transactions began.
  const commits = reading.batches.filter((batch) => batch.changes.length > 0).map((batch) => batch.commitLsn);
  expect(commits.every((lsn, at) => at === 0 || lsn > commits[at - 1]!)).toBe(true);
}, 120_000);

test('a collection dropped and created again does not get what was written into the old one', async () => {
  await using cluster = await foundTestCluster({ count: 2, collections: ['docs'] });
  const addresses = cluster.nodes.map((node) => node.address);
  await cluster.query(0, `insert into docs values ('old', '[1,2,3]')`);
  await dropCollection({ nodes: addresses, name: 'docs' });
  await cluster.create('docs');
  await cluster.query(0, `insert into docs values ('new', '[1,2,3]')`);
  await using reading = await SlotReading.start(cluster);
  await reading.until('the new one', ({ writes }) => writes.some((change) => change.key[0] === 'new'));
  expect(reading.writes.map((change) => change.key[0])).toEqual(['new']);
  expect((await startOf(cluster, 0, 1)).source.slot).toBe(`pgquorum_${cluster.cluster}_1_2`);
}, 120_000);
