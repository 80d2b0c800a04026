/** Re-reading rows by SQL: whole, of one moment, durable, and bounded in memory. */
import { describe, expect, test } from '@jest/globals';
import { setTimeout as delay } from 'node:timers/promises';
import type { WriteChange } from '#core/changelog/change.ts';
import { foundOn, foundTestCluster } from '#core/testing/cluster.pg.ts';
import { startMasters } from '#core/testing/masters.pg.ts';
import { columnOf, SlotReading } from '#core/testing/slot-reading.pg.ts';
import { eventually } from '#core/testing/wait.process.ts';
import { dotText } from '#core/versioning/version.ts';

const dimension = 1024; // 4 kB: stored out of line, and not in the WAL of an update that leaves it alone

const vector = (first: number): string =>
  `[${Array.from({ length: dimension }, (_, at) => (at === 0 ? first : (at % 7) / 8)).join(',')}]`;
const firstOf = (change: WriteChange): number => columnOf(change, 'embedding')!.readFloatBE(4);
const metadataOf = (change: WriteChange): Record<string, unknown> =>
  JSON.parse(columnOf(change, 'metadata')!.toString('utf8', 1)) as Record<string, unknown>;
/** Long enough for what must not happen to happen. */
const meanwhile = () => delay(400);

describe.each([18, 16] as const)('on Postgres %i', (major) => {
  test('a commit that is visible and not yet durable leaves the node only once it is: an immediate stop would lose it and its dot be used twice', async () => {
    await using masters = await startMasters({
      count: 2,
      major,
      settings: { wal_writer_delay: '10s', autovacuum: 'off' },
    });
    await using cluster = await foundOn(masters.nodes, { cluster: 'async', collections: [] });
    const master = masters.nodes[0]!;
    await cluster.create('docs', { dimension });
    await cluster.query(0, `insert into docs values ('k', $1, '{"n":0}')`, [vector(1)]);
    const versionNow = async () =>
      (
        await cluster.query<{ dot: string; n: string }>(
          0,
          `select origin || '.' || counter as dot, metadata ->> 'n' as n from pgquorum.version_docs v join docs using (id)`,
        )
      )[0]!;
    const writeAsync = async (n: number) => {
      // Its counter is then one whose record in the WAL goes with the transaction that draws it.
      await cluster.query(
        0,
        `do $$ begin while (select log_cnt from pgquorum.dot) > 0 loop perform nextval('pgquorum.dot'); end loop; end $$`,
      );
      await cluster.query(0, `update docs set metadata = '{"n":1}'`);
      await cluster.query(
        0,
        `do $$ begin while (select log_cnt from pgquorum.dot) > 0 loop perform nextval('pgquorum.dot'); end loop; end $$`,
      );
      const client = await cluster.client(0);
      await client.query(`set synchronous_commit = off; update docs set metadata = '{"n":${n}}'`);
      return versionNow();
    };
    const crash = async () => {
      await master.stop('immediate');
      await master.start();
      await eventually('the server answers', () => versionNow());
    };
    // The premise: nobody has read it, so it is gone, and the next write gets the dot that it had.
    const lost = await writeAsync(2);
    await crash();
    expect((await versionNow()).n).toBe('1');
    await cluster.query(0, `update docs set metadata = '{"n":3}'`);
    expect(await versionNow()).toEqual({ dot: lost.dot, n: '3' });
    // The same with a reader, whose re-read of the synchronous update sees the asynchronous one.
    const kept = await writeAsync(4);
    await using reading = await SlotReading.start(cluster);
    const read = await reading.until('the re-read', ({ writes }) =>
      writes.find((change) => metadataOf(change).n === 4),
    );
    await crash();
    expect(dotText(read.version.dot)).toBe(kept.dot);
    expect(await versionNow()).toEqual(kept);
  }, 120_000);

  test('with synchronous replication a re-read waits for the commit to become visible', async () => {
    await using masters = await startMasters({ count: 2, major });
    await using cluster = await foundOn(masters.nodes, { cluster: 'sync', collections: [] });
    await cluster.create('docs', { dimension });
    await cluster.query(0, `insert into docs values ('k', $1, '{"n":0}')`, [vector(1)]);
    await using reading = await SlotReading.start(cluster);
    await reading.until('the insert', ({ writes }) => writes.length === 1);
    await cluster.asSuper(0, `alter system set synchronous_standby_names = 'nobody'`);
    await cluster.asSuper(0, 'select pg_reload_conf()');
    const user = await cluster.client(0);
    await eventually(
      'the setting counts',
      async () =>
        (await user.query<{ names: string }>(`select current_setting('synchronous_standby_names') as names`))
          .rows[0]!.names === 'nobody',
    );
    const committing = user.query(`update docs set metadata = '{"n":1}'`);
    await eventually(
      'the commit waits for a standby',
      async () =>
        (await cluster.query(0, `select from pg_stat_activity where wait_event = 'SyncRep'`)).length > 0,
    );
    await meanwhile();
    expect(await cluster.query(0, `select metadata ->> 'n' as n from docs`)).toEqual([{ n: '0' }]);
    // The premise: the slot has decoded the commit, and waits.
    await eventually(
      'the WAL of the commit was sent',
      async () =>
        (
          await cluster.asSuper(
            0,
            `select from pg_stat_replication where application_name = 'pgquorum pgquorum_sync_1_2' and sent_lsn >= pg_current_wal_flush_lsn()`,
          )
        ).length > 0,
    );
    await meanwhile();
    expect(reading.writes).toHaveLength(1);
    await cluster.asSuper(0, `alter system reset synchronous_standby_names`);
    await cluster.asSuper(0, 'select pg_reload_conf()');
    await committing;
    const second = await reading.until('the update', ({ writes }) => writes[1]);
    expect(metadataOf(second)).toEqual({ n: 1 });
    expect(second.version.clock).toEqual({ 1: second.version.dot.counter });
  }, 120_000);
});

test('unchanged values that the WAL leaves out are re-read, and columns of two moments are never mixed', async () => {
  await using cluster = await foundTestCluster({ count: 2 });
  await cluster.create('docs', { dimension });
  await using reading = await SlotReading.start(cluster);
  const keys = 4;
  const writes = 240;
  for (let key = 0; key < keys; key += 1)
    await cluster.query(0, `insert into docs values ($1, $2, '{"vector":1,"n":0}')`, [`k${key}`, vector(1)]);
  const vectors = new Map<string, number>();
  await Promise.all(
    [0, 1].map(async (writer) => {
      for (let n = 1; n <= writes / 2; n += 1) {
        const key = `k${(n + writer) % keys}`;
        if (n % 3 === 0) {
          const tag = writer * 1000 + n;
          await cluster.query(0, `update docs set embedding = $2, metadata = $3 where id = $1`, [
            key,
            vector(tag),
            JSON.stringify({ vector: tag, n }),
          ]);
          vectors.set(key, tag);
        } else
          await cluster.query(0, `update docs set metadata = metadata || $2 where id = $1`, [
            key,
            JSON.stringify({ n, writer }),
          ]);
      }
    }),
  );
  const final = new Map(
    (
      await cluster.query<{ id: string; dot: string }>(
        0,
        `select id, origin || '.' || counter as dot from pgquorum.version_docs`,
      )
    ).map((row) => [row.id, row.dot]),
  );
  await reading.until('the last write of each key', (at) =>
    [...final].every(([key, dot]) =>
      at.writes.some((change) => change.key[0] === key && dotText(change.version.dot) === dot),
    ),
  );
  // A re-read may be ahead of the stream: each write is followed by one delivery all the same.
  await reading.until('as many deliveries as writes', (at) => at.writes.length === keys + writes);
  for (const change of reading.writes)
    expect([change.key, metadataOf(change).vector]).toEqual([change.key, firstOf(change)]);
  // One dot, one content.
  const contents = new Map<string, string>();
  for (const change of reading.writes) {
    const content = JSON.stringify(metadataOf(change));
    expect(contents.get(dotText(change.version.dot)) ?? content).toBe(content);
    contents.set(dotText(change.version.dot), content);
  }
}, 120_000);

test('a transaction beyond the budget is re-read in chunks, whole and exact', async () => {
  await using cluster = await foundTestCluster({ count: 2 });
  await cluster.create('docs', { dimension: 64 });
  await using reading = await SlotReading.start(cluster, { transactionBytesMax: 64 * 1024 });
  const rows = 5000;
  const client = await cluster.client(0);
  await client.query(`begin; insert into docs values ('before', null)`);
  await client.query(
    `insert into docs select 'k' || i, array_fill(i::real, array[64])::vector, jsonb_build_object('n', i, 'text', repeat('x', i % 400)) from generate_series(1, $1) i`,
    [rows],
  );
  await client.query(
    `update docs set metadata = '{"late": true}' where id = 'k7'; delete from docs where id = 'k8'; insert into docs values ('after', null); commit`,
  );
  await reading.until('the end of the transaction', (at) =>
    at.batches.some((batch) => batch.position !== null && batch.changes.length > 0),
  );
  const parts = reading.batches.filter((batch) => batch.changes.length > 0);
  expect(parts.length).toBeGreaterThan(4);
  expect(parts.map((batch) => batch.position !== null)).toEqual([...parts.slice(1).map(() => false), true]);
  expect(new Set(parts.map((batch) => batch.commitLsn)).size).toBe(1);
  for (const part of parts) expect(part.changes.length).toBeLessThanOrEqual(1001);
  const last = new Map(reading.writes.map((change) => [change.key[0]!, change]));
  expect(last.size).toBe(rows + 2);
  expect(metadataOf(last.get('k7')!)).toEqual({ late: true });
  expect(last.get('k8')!).toMatchObject({ row: null, version: { deleted: true } });
  for (let n = 1; n <= rows; n += 97) {
    const change = last.get(`k${n}`)!;
    if (n === 7 || n === 8) continue;
    expect([firstOf(change), columnOf(change, 'embedding')!.length]).toEqual([n, 4 + 64 * 4]);
    expect(metadataOf(change)).toEqual({ n, text: 'x'.repeat(n % 400) });
  }
}, 120_000);

test('a row that went behind the triggers is reported and not published as alive', async () => {
  await using cluster = await foundTestCluster({ count: 2 });
  await cluster.create('docs', { dimension });
  await cluster.query(0, `insert into docs values ('k', $1), ('stays', $1)`, [vector(1)]);
  await cluster.query(0, `update docs set metadata = '{"n":1}'`);
  await cluster.query(
    0,
    `alter table docs disable trigger pgquorum_delete; delete from docs where id = 'k'; alter table docs enable always trigger pgquorum_delete`,
  );
  const rowless: string[] = [];
  await using reading = await SlotReading.start(cluster, {
    onRowless: (_collection, keys) => void rowless.push(...keys),
  });
  await reading.until('the update', ({ writes }) =>
    writes.some((change) => change.key[0] === 'stays' && metadataOf(change).n === 1),
  );
  expect(rowless).toEqual(['k']);
}, 120_000);
