/** Verification that goes on by itself, and the tombstones that it lets go. */
import { expect, test } from '@jest/globals';
import { beginResync } from '#core/resync/store.pg.ts';
import { foundTestCluster, listeningLogger, type TestCluster } from '#core/testing/cluster.pg.ts';
import { eventually } from '#core/testing/wait.process.ts';
import type { ClusterNode } from '#core/topology/found.pg.ts';
import { verifyDue, type ContinuousOptions, type ShardFound } from '#core/verify/continuous.pg.ts';
import type { PurgingWaits } from '#core/verify/purge.pg.ts';
import { pretendCaughtUp } from './verify/run-verify.ts';

const founded = (major: (16 | 18)[] = [18, 16, 18]) =>
  foundTestCluster({ count: major.length, major, collections: ['docs'] });

const signal = new AbortController().signal;

const as = (
  cluster: TestCluster,
  place: number,
  more: Partial<ContinuousOptions> = {},
): ContinuousOptions => ({
  cluster: cluster.cluster,
  me: cluster.nodes[place]!,
  nodes: cluster.nodes,
  rowsPerSecond: 1_000_000,
  intervalMs: 0,
  graceMs: 0,
  logger: listeningLogger().logger,
  catchUpMs: 20_000,
  ...more,
});

/** Each node's replicator compares its share so often. Returns how many tombstones went. */
async function rounds(
  cluster: TestCluster,
  count: number,
  more: Partial<ContinuousOptions> = {},
): Promise<number> {
  let purged = 0;
  for (let round = 0; round < count; round += 1)
    for (const place of cluster.nodes.keys())
      await verifyDue(
        as(cluster, place, { ...more, onPurged: (_collection, tombstones) => (purged += tombstones) }),
        signal,
      );
  return purged;
}

const tombstones = async (cluster: TestCluster): Promise<number[]> => {
  const counts = [];
  for (const place of cluster.nodes.keys()) {
    const [row] = await cluster.query<{ n: number }>(
      place,
      'select count(*)::int as n from pgquorum.version_docs where deleted',
    );
    counts.push(row!.n);
  }
  return counts;
};

const byNumber = (a: number, b: number): number => a - b;

const unreachable = (node: ClusterNode): ClusterNode => ({
  ...node,
  address: { ...node.address, url: 'postgres://nobody@127.0.0.1:1/none' },
});

const expectAlike = async (cluster: TestCluster): Promise<void> => {
  const [first, ...others] = await cluster.states('docs');
  for (const other of others) expect(other).toEqual(first);
};

test('the nodes share the shards, each is compared once in an interval, and what differs is merged and told', async () => {
  await using cluster = await founded();
  await cluster.query(0, `insert into docs select 'k' || i, '[1,2,3]' from generate_series(1, 40) i`);
  await pretendCaughtUp(cluster);
  const found: ShardFound[] = [];
  const since: (Date | null)[] = [];
  const compare = (place: number, more: Partial<ContinuousOptions> = {}) =>
    verifyDue(
      as(cluster, place, {
        intervalMs: 3_600_000,
        onShard: (_collection, one) => found.push(one),
        onVerified: (_collection, at) => since.push(at),
        ...more,
      }),
      signal,
    );
  const compared = [await compare(0), await compare(1), await compare(2)];
  expect(compared.toSorted(byNumber)).toEqual([2, 3, 3]);
  expect(found.map((one) => one.shard).toSorted(byNumber)).toEqual([0, 1, 2, 3, 4, 5, 6, 7]);
  expect(found.reduce((sum, one) => sum + one.differences, 0)).toBe(40);
  expect(found.every((one) => one.mended === one.differences)).toBe(true);
  expect(since.every((at) => at !== null)).toBe(true);
  await expectAlike(cluster);
  const events = [];
  for (const place of [0, 1, 2])
    events.push(
      ...(await cluster.query<{ n: number }>(
        place,
        `select (body ->> 'mended')::int as n from pgquorum.event where type = 'difference'`,
      )),
    );
  expect(events.reduce((sum, one) => sum + one.n, 0)).toBe(40);
  expect([await compare(0), await compare(1), await compare(2)]).toEqual([0, 0, 0]);
  // Those that are left share the shards of one that is down.
  const nodes = [cluster.nodes[0]!, cluster.nodes[1]!, unreachable(cluster.nodes[2]!)];
  expect((await compare(0, { nodes, intervalMs: 0 })) + (await compare(1, { nodes, intervalMs: 0 }))).toBe(8);
}, 240_000);

test('tombstones go from all nodes once all of them were verified twice, and what was deleted does not come back', async () => {
  await using cluster = await founded();
  cluster.replicate();
  await cluster.query(0, `insert into docs select 'k' || i, '[1,2,3]' from generate_series(1, 60) i`);
  await cluster.caughtUp();
  await cluster.query(1, `delete from docs where id <= 'k4'`);
  await cluster.caughtUp();
  const [deleted] = await tombstones(cluster);
  expect(deleted).toBeGreaterThan(30);
  expect(await rounds(cluster, 3, { graceMs: 3_600_000 })).toBe(0);
  expect(await tombstones(cluster)).toEqual([deleted, deleted, deleted]);

  expect(await rounds(cluster, 3)).toBe(deleted);
  expect(await tombstones(cluster)).toEqual([0, 0, 0]);
  await expectAlike(cluster);
  // What is under the purge horizon and alive can be lost and mended too.
  const client = await cluster.client(2);
  await client.query(
    `begin; set local pgquorum.apply = 'on'; delete from docs where id = 'k50'; delete from pgquorum.version_docs where id = 'k50'; commit`,
  );
  await rounds(cluster, 1);
  expect(await cluster.query(2, `select id from docs where id = 'k50'`)).toHaveLength(1);
  await expectAlike(cluster);
  // A key that was purged can be written again, and wins.
  await cluster.query(2, `insert into docs values ('k1', '[9,9,9]')`);
  await cluster.caughtUp();
  expect(await cluster.query(0, `select embedding::text from docs where id = 'k1'`)).toEqual([
    { embedding: '[9,9,9]' },
  ]);
  // And goes again, while users write.
  await cluster.query(0, `delete from docs where id = 'k1'`);
  const users = (async () => {
    for (let n = 0; n < 150; n += 1)
      await cluster.query(n % 3, `update docs set metadata = $1 where id = 'k${50 + (n % 10)}'`, [{ n }]);
  })();
  await rounds(cluster, 1);
  await users;
  await cluster.caughtUp();
  await cluster.caughtUp();
  await rounds(cluster, 3);
  expect(await tombstones(cluster)).toEqual([0, 0, 0]);
  await expectAlike(cluster);
  expect(await cluster.query(0, `select id from docs where id <= 'k4'`)).toEqual([]);
}, 240_000);

test('while a node is down, or has not heard of a delete, nothing is purged, so its old rows do not come back', async () => {
  await using cluster = await founded();
  cluster.replicate();
  await cluster.query(0, `insert into docs select 'k' || i, '[1,2,3]' from generate_series(1, 30) i`);
  await cluster.caughtUp();
  // n3 is cut off: it hears nothing and nobody hears of it.
  await cluster.stopEdges();
  cluster.edge(0, 1);
  cluster.edge(1, 0);
  await cluster.query(0, `delete from docs where id <> 'k30'`);
  await cluster.query(2, `update docs set metadata = '{"away":true}' where id = 'k7'`);
  await cluster.caughtUp();
  const nodes = [cluster.nodes[0]!, cluster.nodes[1]!, unreachable(cluster.nodes[2]!)];
  for (let round = 0; round < 3; round += 1)
    for (const place of [0, 1]) await verifyDue(as(cluster, place, { nodes, catchUpMs: 300 }), signal);
  expect((await tombstones(cluster)).slice(0, 2)).toEqual([29, 29]);
  expect(await cluster.query(0, 'select from pgquorum.horizon where shard >= 0')).toEqual([]);
  // It can be reached, and still has not applied anything.
  await rounds(cluster, 1, { catchUpMs: 300 });
  expect(await cluster.query(0, 'select from pgquorum.horizon where shard >= 0')).toEqual([]);

  await cluster.stopEdges();
  cluster.replicate();
  await cluster.caughtUp();
  await cluster.caughtUp();
  await rounds(cluster, 4);
  await expectAlike(cluster);
  // What it wrote meanwhile met the tombstone: one of both is a record, and the rest is gone for good.
  const left = await cluster.query<{ id: string }>(2, 'select id from docs order by id');
  expect(left.filter(({ id }) => id !== 'k7')).toEqual([{ id: 'k30' }]);
  expect(await cluster.query(2, `select key from pgquorum.conflict where state = 'open'`)).toEqual([
    { key: 'k7' },
  ]);
  expect(Math.max(...(await tombstones(cluster)))).toBeLessThanOrEqual(1);
}, 240_000);

test('a change that is put away as a dead letter holds purging up', async () => {
  await using cluster = await founded([18, 16]);
  cluster.replicate();
  await cluster.query(0, `insert into docs values ('k', '[1,2,3]')`);
  await cluster.query(0, `delete from docs`);
  await cluster.caughtUp();
  await cluster.query(
    1,
    `insert into pgquorum.dead_letter (origin, log, stream, collection, key, message, payload) values (1, 'wal', 0, 'docs', 'other', 'refused', '')`,
  );
  expect(await rounds(cluster, 3)).toBe(0);
  await cluster.query(1, 'delete from pgquorum.dead_letter');
  expect(await rounds(cluster, 3)).toBe(1);
}, 240_000);

test('a parked change, a running resync and a transaction that stays open each hold purging up, and it says so', async () => {
  await using cluster = await founded([18, 16]);
  cluster.replicate();
  await cluster.query(0, `insert into docs values ('k', '[1,2,3]'), ('locked', '[1,2,3]')`);
  await cluster.query(0, `delete from docs where id = 'k'`);
  await cluster.caughtUp();
  /** On a busy machine an edge may be behind for a while: that is said first. Nothing goes meanwhile. */
  const waits = (expected: PurgingWaits) =>
    eventually(
      `it says ${expected.detail}`,
      async () => {
        const told: (PurgingWaits | null)[] = [];
        const onPurging = (_collection: string, one: PurgingWaits | null) => void told.push(one);
        expect(await rounds(cluster, 1, { catchUpMs: 1000, onPurging })).toBe(0);
        return told.some((one) => one?.detail === expected.detail && one.waits === expected.waits);
      },
      { withinMs: 60_000 },
    );

  const user = await cluster.client(1);
  await user.query(`begin; select from docs where id = 'locked' for update`);
  await cluster.query(0, `update docs set metadata = '{"n":1}' where id = 'locked'`);
  await eventually(
    'the change is parked',
    async () => (await cluster.query(1, 'select from pgquorum.parked')).length > 0,
  );
  await waits({ waits: 'parked', detail: 'changes are parked on n2' });
  await user.query('rollback');
  await eventually(
    'it is applied',
    async () => (await cluster.query(1, 'select from pgquorum.parked')).length === 0,
  );
  await cluster.caughtUp();

  // Nobody copies here: it lasts.
  expect(
    await beginResync(user, { origin: 1, log: 'wal', reason: 'a test', phase: 'copying', synced: null }),
  ).toBe(true);
  await waits({ waits: 'resync', detail: 'what was missed from n1 to n2 is being copied' });
  await cluster.query(1, `delete from pgquorum.resync`);
  await cluster.query(1, `update pgquorum.source set state = 'ready' where origin = 1`);

  await user.query(`begin; insert into docs values ('open', '[1,2,3]')`);
  const detail = 'a transaction that wrote stays open on n2';
  await eventually('it says so', async () => {
    let open = false;
    const onPurging = (_collection: string, one: PurgingWaits | null) =>
      void (open ||= one?.detail === detail);
    await verifyDue(as(cluster, 0, { onPurging }), signal);
    return open;
  });
  await user.query('commit');
  await cluster.caughtUp();
  expect(await tombstones(cluster)).toEqual([1, 1]);
  expect(await rounds(cluster, 3)).toBe(1);
  expect(await tombstones(cluster)).toEqual([0, 0]);
}, 240_000);
