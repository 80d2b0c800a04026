/** Tombstones are purged on real masters, and what was deleted comes once more. */
import { expect, test } from '@jest/globals';
import { ApplySession } from '#core/apply/session.pg.ts';
import { applyTransaction } from '#core/apply/transaction.pg.ts';
import type { ChangeLogReader } from '#core/changelog/port.ts';
import type { DataChange } from '#core/changelog/change.ts';
import { readCollection } from '#core/collections/catalog.pg.ts';
import { askCounter, deleteTombstones, raiseHorizon } from '#core/purging/horizon.pg.ts';
import { foundTestCluster, openWal, type TestCluster } from '#core/testing/cluster.pg.ts';
import { eventually } from '#core/testing/wait.process.ts';
import type { Clock } from '#core/versioning/clock.ts';
import type { ShardNumber } from '#core/versioning/version.ts';
import { startGateway } from './gateway-fixture.ts';

const signal = new AbortController().signal;

/** Everything that the edges bring, to be brought once more. */
function replicateAndKeep(cluster: TestCluster): DataChange[] {
  const kept: DataChange[] = [];
  for (const origin of cluster.nodes)
    for (const target of cluster.nodes) {
      if (origin === target) continue;
      cluster.edge(cluster.nodes.indexOf(origin), cluster.nodes.indexOf(target), {
        openReader: (start): Promise<ChangeLogReader> => {
          const wal = openWal(origin, start);
          return Promise.resolve({
            origin: wal.origin,
            confirm: (stream, position) => wal.confirm(stream, position),
            positions: () => wal.positions(),
            close: () => wal.close(),
            async *read(options) {
              for await (const batch of wal.read(options)) {
                kept.push(...batch.changes.filter((change) => change.kind !== 'heartbeat'));
                yield batch;
              }
            },
          });
        },
      });
    }
  return kept;
}

async function applyAgain(cluster: TestCluster, place: number, changes: readonly DataChange[]) {
  const session = await ApplySession.open({
    node: cluster.nodes[place]!.address,
    application: 'late',
    originName: `late_${cluster.cluster}`,
  });
  try {
    return await applyTransaction(session, { changes, progress: null, lockTimeoutMs: 5000 });
  } finally {
    await session.close();
  }
}

const shardOf = async (cluster: TestCluster, key: string): Promise<ShardNumber> =>
  (
    await cluster.query<{ shard: ShardNumber }>(0, 'select (pgquorum.key_hash($1) % 8)::int as shard', [key])
  )[0]!.shard;

/** As the contract of horizon.pg.ts has it, for masters of which each has merged everything. */
async function purge(cluster: TestCluster, key: string): Promise<number[]> {
  const clients = await Promise.all(cluster.nodes.map((_, place) => cluster.client(place)));
  const { table } = (await readCollection(clients[0]!, 'docs'))!;
  const shard = await shardOf(cluster, key);
  const counters = await Promise.all(clients.map((client) => askCounter(client, signal)));
  const clock: Clock = Object.fromEntries(
    cluster.nodes.map((node, place) => [node.number, counters[place]!]),
  );
  for (const client of clients) await raiseHorizon(client, { table, shard }, clock);
  const deleted: number[] = [];
  for (const client of clients)
    deleted.push(await deleteTombstones(client, { table, shard, clock, limit: 100 }));
  return deleted;
}

const rows = (cluster: TestCluster, place: number) =>
  cluster.query(place, 'select id, metadata from docs order by id');
const records = (cluster: TestCluster, place: number) =>
  cluster.query<{ id: string; kind: string; state: string; metadata: string }>(
    place,
    `select id, kind, state, loser_row ->> 'metadata' as metadata from pgquorum.conflict order by loser_hlc`,
  );

test('what was deleted and purged stays away when it comes once more, in a record on every master that can be restored', async () => {
  await using cluster = await foundTestCluster({ count: 2, collections: ['docs'] });
  const kept = replicateAndKeep(cluster);
  await cluster.query(0, `insert into docs values ('k', '[1,2,3]', '{"n":1}')`);
  await cluster.caughtUp();
  await cluster.query(1, `update docs set metadata = '{"n":2}' where id = 'k'`);
  await cluster.caughtUp();
  await cluster.query(0, `delete from docs where id = 'k'`);
  await cluster.caughtUp();
  expect(await purge(cluster, 'k')).toEqual([1, 1]);
  const late = kept.splice(0).filter((change) => change.kind === 'write');
  expect(late.map((change) => change.version.deleted)).toEqual([false, false, true]);

  for (let again = 0; again < 2; again += 1) await applyAgain(cluster, 1, late);
  await cluster.caughtUp();
  for (const place of [0, 1]) {
    expect(await rows(cluster, place)).toEqual([]);
    expect(await records(cluster, place)).toMatchObject([
      { kind: 'returned', state: 'superseded', metadata: '{"n": 1}' },
      { kind: 'returned', state: 'superseded', metadata: '{"n": 2}' },
    ]);
  }
  // Written again, it is still not taken for a write that competes, although the new version has not seen it.
  await cluster.query(1, `insert into docs values ('k', '[4,5,6]', '{"n":3}')`);
  await cluster.caughtUp();
  for (const place of [0, 1]) await applyAgain(cluster, place, late);
  await cluster.caughtUp();
  const [first, second] = await cluster.states('docs');
  expect(second).toEqual(first);
  expect(await rows(cluster, 0)).toEqual([{ id: 'k', metadata: { n: 3 } }]);

  await using gateway = await startGateway({ nodes: cluster.masters, cluster: cluster.cluster });
  const [, lost] = await records(cluster, 0);
  const restored = await gateway.send('POST', `/v1/conflicts/${lost!.id}/restore`);
  expect(restored).toMatchObject({ status: 200 });
  await cluster.caughtUp();
  for (const place of [0, 1]) expect(await rows(cluster, place)).toEqual([{ id: 'k', metadata: { n: 2 } }]);
}, 120_000);

test('a purged row can be restored where its key is absent, and counts as a new write everywhere', async () => {
  await using cluster = await foundTestCluster({ count: 2, collections: ['docs'] });
  const kept = replicateAndKeep(cluster);
  await cluster.query(0, `insert into docs values ('k', '[1,2,3]', '{"n":1}')`);
  await cluster.query(0, `delete from docs where id = 'k'`);
  await cluster.caughtUp();
  await purge(cluster, 'k');
  await applyAgain(cluster, 1, kept.splice(0));
  await cluster.caughtUp();
  const [lost] = await records(cluster, 0);
  await using gateway = await startGateway({ nodes: cluster.masters, cluster: cluster.cluster });
  const restored = await gateway.send('POST', `/v1/conflicts/${lost!.id}/restore`);
  expect(restored).toMatchObject({ status: 200, body: { replaced: null } });
  await cluster.caughtUp();
  for (const place of [0, 1]) {
    expect(await rows(cluster, place)).toEqual([{ id: 'k', metadata: { n: 1 } }]);
    expect(await records(cluster, place)).toMatchObject([{ kind: 'returned', state: 'restored' }]);
  }
}, 120_000);

test('a write of a master that has deleted a tombstone is no conflict where that still stands', async () => {
  await using cluster = await foundTestCluster({ count: 2, collections: ['docs'] });
  cluster.replicate();
  await cluster.query(0, `insert into docs values ('k', '[1,2,3]')`);
  await cluster.query(0, `delete from docs where id = 'k'`);
  await cluster.caughtUp();
  const clients = await Promise.all([0, 1].map((place) => cluster.client(place)));
  const { table } = (await readCollection(clients[0]!, 'docs'))!;
  const shard = await shardOf(cluster, 'k');
  const clock: Clock = { 1: await askCounter(clients[0]!, signal) };
  await expect(deleteTombstones(clients[0]!, { table, shard, clock, limit: 1 })).rejects.toMatchObject({
    code: 'invariant_broken',
  });
  for (const client of clients) await raiseHorizon(client, { table, shard }, clock);
  expect(await deleteTombstones(clients[0]!, { table, shard, clock, limit: 100 })).toBe(1);
  await cluster.query(0, `insert into docs values ('k', '[4,5,6]')`);
  await cluster.caughtUp();
  const [first, second] = await cluster.states('docs');
  expect(second).toEqual(first);
  for (const place of [0, 1]) expect(await records(cluster, place)).toEqual([]);
}, 120_000);

test('a counter is told once every transaction that drew one up to it has ended', async () => {
  await using cluster = await foundTestCluster({ count: 1, collections: ['docs'] });
  const [asking, writing] = [await cluster.client(0), await cluster.client(0)];
  const before = await askCounter(asking, signal);
  await writing.query(`begin; insert into docs values ('k', '[1,2,3]')`);
  let told: number | null = null;
  const asked = askCounter(asking, signal).then((counter) => (told = counter));
  const isAsking = async () =>
    (
      await cluster.query(
        0,
        `select from pg_stat_activity where pid = $1 and query like '%virtualtransaction%'`,
        [(asking as unknown as { processID: number }).processID],
      )
    ).length > 0;
  await eventually('it looks for open transactions', isAsking);
  expect(told).toBe(null);
  await writing.query('commit');
  expect(await asked).toBeGreaterThan(before);
}, 120_000);
