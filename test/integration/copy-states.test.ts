/** Copying whole states between masters: what repair, resync and joining stand on. */
import { expect, test } from '@jest/globals';
import { foundTestCluster, listeningLogger, type TestCluster } from '#core/testing/cluster.pg.ts';
import { eventually } from '#core/testing/wait.process.ts';
import { closeClient, connect } from '#core/postgres/connect.pg.ts';
import { copyKeys, copyRange, type CopyOptions, type CopyStep } from '#core/verify/copy-states.pg.ts';
import { StateReader, type WalkBatch, type WalkPlace } from '#core/verify/read-states.pg.ts';

const shards = 8;

const between = (
  cluster: TestCluster,
  source: number,
  target: number,
  more: Partial<CopyOptions> = {},
): CopyOptions => ({
  cluster: cluster.cluster,
  collection: 'docs',
  source: cluster.nodes[source]!,
  target: cluster.nodes[target]!,
  logger: listeningLogger().logger,
  signal: new AbortController().signal,
  ...more,
});

async function copyAll(options: CopyOptions): Promise<CopyStep[]> {
  const steps: CopyStep[] = [];
  for (let shard = 0; shard < shards; shard += 1)
    for await (const step of copyRange(options, { shard })) steps.push(step);
  return steps;
}

const sum = (steps: readonly CopyStep[], of: 'read' | 'written' | 'conflicts'): number =>
  steps.reduce((total, step) => total + step[of], 0);

test('a node that has heard nothing gets rows, tombstones, CRDT fields, open losers and closed records, on another major too', async () => {
  await using cluster = await foundTestCluster({ count: 3, major: [18, 16, 16] });
  await cluster.create('docs', { conflicts: { strategy: 'crdt', crdt: { hits: 'pn-counter' } } });
  const edges = [cluster.edge(0, 1), cluster.edge(1, 0)];
  await cluster.query(0, `insert into docs select 'k' || i, '[1,2,3]' from generate_series(1, 40) i`);
  await cluster.caughtUp();
  await cluster.query(
    0,
    `select pgquorum.counter_add('docs', 'k' || i, 'hits', i) from generate_series(1, 9) i`,
  );
  await cluster.query(1, `delete from docs where id in ('k1', 'k30', 'k31')`);
  await cluster.caughtUp();
  // Neither knows of the other's write.
  for (const edge of edges) await edge.stop();
  for (const place of [0, 1])
    await cluster.query(place, `update docs set metadata = '{"by":${place}}' where id in ('k20', 'k21')`);
  cluster.edge(0, 1);
  cluster.edge(1, 0);
  await cluster.caughtUp();
  await cluster.query(0, `update docs set metadata = '{"seen":"both"}' where id = 'k21'`);
  await cluster.caughtUp();
  await cluster.caughtUp();
  expect(await cluster.state(2, 'docs')).toEqual([]);
  const steps = await copyAll(between(cluster, 0, 2));
  expect(sum(steps, 'read')).toBe(40);
  expect(sum(steps, 'written')).toBe(40);
  const [first, , third] = await cluster.states('docs');
  expect(third).toEqual(first);
  expect(first!.filter((line) => line.startsWith('conflict'))).not.toEqual([]);
  const closed = `select key, state, loser_row from pgquorum.conflict where state <> 'open' order by id`;
  expect(await cluster.query(2, closed)).toEqual(await cluster.query(0, closed));
  expect(await cluster.query(2, closed)).not.toEqual([]);
  expect(sum(await copyAll(between(cluster, 0, 2)), 'written')).toBe(0);
}, 240_000);

test('copying both ways makes two masters that never spoke equal, and concurrent writes leave their records on both', async () => {
  await using cluster = await foundTestCluster({ count: 2, collections: ['docs'] });
  for (const place of [0, 1])
    await cluster.query(
      place,
      `insert into docs select 'k' || i, '[1,2,3]', '{"by":${place}}' from generate_series(1 + ${place} * 10, 20 + ${place} * 10) i`,
    );
  await cluster.query(0, `delete from docs where id = 'k20'`);
  expect(sum(await copyAll(between(cluster, 0, 1)), 'conflicts')).toBe(10);
  await copyAll(between(cluster, 1, 0));
  const [first, second] = await cluster.states('docs');
  expect(second).toEqual(first);
  expect(first!.filter((line) => line.startsWith('conflict'))).toHaveLength(10);
  expect(first!.filter((line) => line.startsWith('row'))).toHaveLength(29);
}, 240_000);

test('steps are bounded in rows and bytes, and a copy that was cut off goes on behind what it noted', async () => {
  await using cluster = await foundTestCluster({ count: 2, collections: ['docs'] });
  await cluster.query(
    0,
    `insert into docs select 'k' || i, '[1,2,3]', jsonb_build_object('t', repeat('x', case when i % 10 = 0 then 30000 else 10 end)) from generate_series(1, 200) i`,
  );
  const few = between(cluster, 0, 1, { limit: { rows: 7, bytes: 50_000 } });
  const small = await copyAll(few);
  expect(Math.max(...small.map((step) => step.read))).toBe(7);
  expect(sum(small, 'read')).toBe(200);
  expect(await cluster.state(1, 'docs')).toEqual(await cluster.state(0, 'docs'));

  await cluster.query(0, `update docs set metadata = jsonb_build_object('t', repeat('x', 30000))`);
  const large = await copyAll(between(cluster, 0, 1, { limit: { rows: 500, bytes: 100_000 } }));
  expect(Math.max(...large.map((step) => step.read))).toBeLessThanOrEqual(4);
  expect(sum(large, 'written')).toBe(200);

  await cluster.query(0, `update docs set metadata = '{"last":true}'`);
  const abort = new AbortController();
  const cut = { ...few, signal: abort.signal };
  let noted: CopyStep | undefined;
  const reading = async () => {
    for await (const step of copyRange(cut, { shard: 0 })) {
      if (noted !== undefined) abort.abort(); // within the step after the noted one
      noted ??= step;
    }
  };
  await expect(reading()).rejects.toThrow('aborted');
  const rest: CopyStep[] = [];
  for await (const step of copyRange(few, { shard: 0, after: noted!.next })) rest.push(step);
  const [inShard] = await cluster.query<{ n: number }>(
    0,
    'select count(*)::int as n from pgquorum.version_docs where shard = 0',
  );
  expect(noted!.read + sum(rest, 'read')).toBe(inShard!.n);
  for (let shard = 1; shard < shards; shard += 1)
    for await (const step of copyRange(few, { shard })) expect(step.refused).toEqual([]);
  expect(await cluster.state(1, 'docs')).toEqual(await cluster.state(0, 'docs'));
}, 240_000);

test('a range ends where it is told to, in the order of the key', async () => {
  await using cluster = await foundTestCluster({ count: 2, collections: ['docs'] });
  await cluster.query(0, `insert into docs select 'k' || i, '[1,2,3]' from generate_series(1, 100) i`);
  const keys = (
    await cluster.query<{ id: string }>(0, 'select id from pgquorum.version_docs where shard = 3 order by id')
  ).map((row) => row.id);
  const options = between(cluster, 0, 1, { limit: { rows: 2, bytes: 1_000_000 } });
  const steps: CopyStep[] = [];
  for await (const step of copyRange(options, { shard: 3, after: [keys[0]!], upTo: [keys.at(-2)!] }))
    steps.push(step);
  expect(await cluster.query(1, 'select id from docs order by id collate "C"')).toEqual(
    keys.slice(1, -1).map((id) => ({ id })),
  );
  for await (const step of copyKeys(options, [[keys[0]!], ['never'], [keys.at(-1)!]])) steps.push(step);
  expect(await cluster.query(1, 'select id from docs order by id collate "C"')).toEqual(
    keys.map((id) => ({ id })),
  );
}, 240_000);

test('what was read is durable on the source before the target has it', async () => {
  await using cluster = await foundTestCluster({ count: 2, collections: ['docs'] });
  const writer = await cluster.client(0);
  await writer.query('set synchronous_commit = off');
  await writer.query(`insert into docs values ('k', '[1,2,3]')`);
  const { rows } = await writer.query<{ at: string }>('select pg_current_wal_insert_lsn()::text as at');
  for await (const step of copyKeys(between(cluster, 0, 1), [['k']])) {
    expect(step.written).toBe(1);
    const [durable] = await cluster.query<{ durable: boolean }>(
      0,
      'select pg_current_wal_flush_lsn() >= $1::pg_lsn as durable',
      [rows[0]!.at],
    );
    expect(durable!.durable).toBe(true);
  }
}, 240_000);

test('users write and lanes apply meanwhile: one writer leaves no conflict, and both sides end equal', async () => {
  await using cluster = await foundTestCluster({ count: 2, collections: ['docs'] });
  cluster.replicate();
  await cluster.query(0, `insert into docs select 'k' || i, '[1,2,3]' from generate_series(1, 300) i`);
  let writing = true;
  const users = (async () => {
    for (let n = 0; writing; n += 1) {
      await cluster.query(0, `update docs set metadata = $1 where id = 'k' || $2::text`, [
        { n },
        (n * 7) % 300,
      ]);
      if (n % 5 === 0) await cluster.query(0, `delete from docs where id = 'k' || $1::text`, [(n * 3) % 300]);
    }
  })();
  const options = { limit: { rows: 20, bytes: 1_000_000 } };
  await copyAll(between(cluster, 0, 1, options));
  await copyAll(between(cluster, 1, 0, options));
  writing = false;
  await users;
  await cluster.caughtUp();
  const [first, second] = await cluster.states('docs');
  expect(second).toEqual(first);
  expect(await cluster.query(0, 'select id from pgquorum.conflict')).toEqual([]);
}, 240_000);

test('a row that a user has locked is waited for; what the target refuses is listed, and the rest is copied', async () => {
  await using cluster = await foundTestCluster({ count: 2, collections: ['docs'] });
  await cluster.query(
    0,
    `insert into docs select 'k' || i, '[1,2,3]', jsonb_build_object('n', i) from generate_series(1, 10) i`,
  );
  await copyAll(between(cluster, 0, 1));
  await cluster.query(0, `update docs set metadata = metadata || '{"new":true}'`);
  const user = await cluster.client(1);
  await user.query(`begin; select from docs where id = 'k5' for update`);
  const keys = Array.from({ length: 10 }, (_, at) => [`k${at + 1}`]);
  const copying = (async () => {
    const steps: CopyStep[] = [];
    for await (const step of copyKeys(between(cluster, 0, 1), keys)) steps.push(step);
    return steps;
  })();
  await eventually('all others are copied', async () => {
    const [row] = await cluster.query<{ n: number }>(
      1,
      `select count(*)::int as n from docs where metadata ? 'new'`,
    );
    return row!.n === 9;
  });
  await user.query('commit');
  expect(sum(await copying, 'written')).toBe(10);

  await cluster.query(1, `create unique index only_one on docs ((metadata ->> 'n'))`);
  await cluster.query(1, `insert into docs values ('other', '[1,2,3]', '{"n":11}')`);
  await cluster.query(
    0,
    `insert into docs values ('k11', '[1,2,3]', '{"n":11}'), ('k12', '[1,2,3]', '{"n":12}')`,
  );
  for await (const step of copyKeys(between(cluster, 0, 1), [['k11'], ['k12']])) {
    expect(step.refused.map(({ key, sqlstate }) => [key, sqlstate])).toEqual([[['k11'], '23505']]);
    expect(step.written).toBe(1);
  }
}, 240_000);

test('a walk over all shards gives every key once, in the order of shards and keys, however small its batches are', async () => {
  await using cluster = await foundTestCluster({ count: 1, collections: ['docs'] });
  await cluster.query(0, `insert into docs select 'k' || i, '[1,2,3]' from generate_series(1, 50) i`);
  await cluster.query(0, `delete from docs where id in ('k7', 'k8')`);
  const expected = (
    await cluster.query<{ shard: number; id: string }>(
      0,
      'select shard, id from pgquorum.version_docs order by shard, id',
    )
  ).map(({ shard, id }) => ({ shard, key: [id] }));
  expect(new Set(expected.map(({ shard }) => shard)).size).toBeGreaterThan(4);
  const client = await connect(cluster.nodes[0]!.address, { application: 'test' });
  try {
    const reader = await StateReader.open(client, 'docs');
    for (const rows of [1, 7, 50, 500]) {
      const sizes: number[] = [];
      const found = [];
      for (let place: WalkPlace | null = { shard: 0, after: null }; place !== null;) {
        const batch: WalkBatch = await reader.onward(place, { rows, bytes: 1_000_000 });
        // States of one batch come in no order of their own.
        const part = batch.changes.map(({ shard, key }) => ({ shard, key }));
        found.push(...expected.filter((one) => part.some(({ key }) => key[0] === one.key[0])));
        sizes.push(part.length);
        if (batch.next !== null)
          expect(batch.next).toEqual({ shard: found.at(-1)!.shard, after: found.at(-1)!.key });
        place = batch.next;
      }
      expect(found).toEqual(expected);
      expect(sizes).toEqual([...Array<number>(Math.floor(50 / rows)).fill(rows), 50 % rows]);
    }
  } finally {
    await closeClient(client);
  }
}, 120_000);
