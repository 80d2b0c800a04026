/** How long conflict records are kept, and what the replicator tells of them. */
import { expect, test } from '@jest/globals';
import { createLogger } from '#core/observability/logger.process.ts';
import { forgetConflicts } from '#core/conflicts/forget.pg.ts';
import { foundTestCluster, type TestCluster } from '#core/testing/cluster.pg.ts';
import { eventually } from '#core/testing/wait.process.ts';
import { startReplicator } from '../../apps/replicator/src/app.module.ts';
import { REPLICATION, type Replication } from '../../apps/replicator/src/tokens.ts';
import { settingsFor } from './gateway-fixture.ts';

/** `agesMs` ago a record of each state advanced last. */
async function addRecords(cluster: TestCluster, place: number, agesMs: readonly number[]): Promise<void> {
  await cluster.query(
    place,
    `insert into pgquorum.conflict (id, collection, key, key_texts, shard, kind, loser_rank, loser_epoch, loser_hlc, loser_origin, loser_counter, loser_clock, loser_deleted,
       winner_hlc, winner_origin, winner_counter, state, state_hlc, state_origin, decided_by, reason, applied)
     select gen_random_uuid(), 'docs', s.state || a.age, '[]', 0, 'update-update', 0, 0, 1, 9, row_number() over (), '{}', true, 2, 1, 1, s.state,
       ((extract(epoch from clock_timestamp()) * 1000)::bigint - a.age) << 16, 1, 'lww', 'older', true
     from unnest($1::bigint[]) a(age), unnest(array['open', 'superseded', 'resolved', 'restored']) s(state)`,
    [agesMs],
  );
}

const kept = async (cluster: TestCluster, place: number): Promise<Record<string, number>> =>
  Object.fromEntries(
    (
      await cluster.query<{ state: string; count: number }>(
        place,
        'select state, count(*)::int as count from pgquorum.conflict group by 1 order by 1',
      )
    ).map(({ state, count }) => [state, count]),
  );

const hour = 3_600_000;

test('records that are closed go after their time, the oldest go beyond the number, open ones never', async () => {
  await using cluster = await foundTestCluster({ count: 1, collections: ['docs'] });
  await addRecords(
    cluster,
    0,
    [1, 2, 3].map((hours) => hours * hour),
  );
  const client = await cluster.client(0);
  expect(await forgetConflicts(client, { keptMax: 100, keptMs: 2.5 * hour })).toBe(3);
  expect(await kept(cluster, 0)).toEqual({ open: 3, resolved: 2, restored: 2, superseded: 2 });
  expect(await forgetConflicts(client, { keptMax: 4, keptMs: 100 * hour })).toBe(2);
  const left = await cluster.query<{ key: string }>(
    0,
    `select key from pgquorum.conflict where state <> 'open'`,
  );
  expect(left.filter(({ key }) => key.endsWith(String(hour)))).toHaveLength(3);
  expect(await forgetConflicts(client, { keptMax: 0, keptMs: 100 * hour })).toBe(4);
  expect(await kept(cluster, 0)).toEqual({ open: 3 });
});

test('many records go in steps, all of them', async () => {
  await using cluster = await foundTestCluster({ count: 1, collections: ['docs'] });
  await addRecords(
    cluster,
    0,
    Array.from({ length: 900 }, (_, at) => hour + at),
  );
  const client = await cluster.client(0);
  expect(await forgetConflicts(client, { keptMax: 10, keptMs: 2 * hour })).toBe(2690);
  expect(await kept(cluster, 0)).toMatchObject({ open: 900 });
});

test('the replicator forgets them on every node and counts the open ones by collection', async () => {
  await using cluster = await foundTestCluster({ count: 2, collections: ['docs', 'quiet'] });
  for (const place of [0, 1]) await addRecords(cluster, place, [hour, 3 * hour]);
  const settings = settingsFor(cluster.masters, cluster.cluster, {
    PGQUORUM_CONFLICTS_KEPT_MS: String(2 * hour),
    PGQUORUM_CONFLICTS_KEPT_MAX: '2',
  });
  const replicator = await startReplicator(settings, createLogger({ app: 'test', level: 'silent' }));
  try {
    const { metrics } = replicator.get<Replication>(REPLICATION);
    for (const place of [0, 1])
      await eventually('old records are forgotten', async () => {
        const { open, ...closed } = await kept(cluster, place);
        return open === 2 && Object.values(closed).reduce((sum, count) => sum + count, 0) === 2;
      });
    const gauge = async () =>
      Object.fromEntries(
        (await metrics.openConflicts.get()).values.map(({ labels, value }) => [
          `${labels.node} ${labels.collection}`,
          value,
        ]),
      );
    await eventually('open ones are counted', async () => Object.keys(await gauge()).length === 4);
    expect(await gauge()).toEqual({ 'n1 docs': 2, 'n1 quiet': 0, 'n2 docs': 2, 'n2 quiet': 0 });
  } finally {
    await replicator.close();
  }
});
