/** BATCH_SIZE and SYNC_INTERVAL_MS: which changes an applier puts into one transaction. A row's xmin tells which one wrote it. */
import { expect, test } from '@jest/globals';
import { foundTestCluster, type TestCluster } from '#core/testing/cluster.pg.ts';
import { eventually } from '#core/testing/wait.process.ts';

/** How many rows each apply transaction wrote. */
const transactions = async (cluster: TestCluster): Promise<number[]> =>
  (
    await cluster.query<{ rows: number }>(
      1,
      'select count(*)::int as rows from docs group by xmin::text order by min(id)',
    )
  ).map(({ rows }) => rows);
const arrived = (cluster: TestCluster, rows: number) =>
  eventually(`${rows} rows have arrived`, async () => {
    const found = await transactions(cluster);
    return found.reduce((sum, one) => sum + one, 0) === rows;
  });

test('no transaction holds more changes than the batch size, and what is committed together is applied together up to it', async () => {
  for (const [batchSize, most] of [
    [10, 10],
    [500, 100],
  ] as const) {
    await using cluster = await foundTestCluster({ count: 2, collections: ['docs'] });
    cluster.edge(0, 1, { lanes: 1, batchSize });
    await cluster.query(
      0,
      `insert into docs select lpad(i::text, 3, '0'), '[1,2,3]' from generate_series(1, 100) i`,
    );
    await arrived(cluster, 100);
    expect(await transactions(cluster)).toEqual(Array.from({ length: 100 / most }, () => most));
  }
}, 120_000);

test('small commits linger for the sync interval and are applied together; a full batch does not wait for it', async () => {
  await using cluster = await foundTestCluster({ count: 2, collections: ['docs'] });
  /** A commit each, one right after the other. */
  const write = (...ids: string[]) =>
    cluster.query(
      0,
      `do $$ declare one text; begin foreach one in array '{${ids.join(',')}}'::text[] loop insert into docs values (one, '[1,2,3]'); commit; end loop; end $$`,
    );
  cluster.edge(0, 1, { lanes: 1, batchSize: 500, syncIntervalMs: 3000 });
  await write('a', 'b', 'c', 'd', 'e');
  await arrived(cluster, 5);
  expect(await transactions(cluster)).toEqual([5]);
  await cluster.stopEdges();
  // For so long that only a full batch can have gone.
  cluster.edge(0, 1, { lanes: 1, batchSize: 4, syncIntervalMs: 60_000 });
  await write('f', 'g', 'h', 'i', 'j');
  await arrived(cluster, 9);
  expect(await transactions(cluster)).toEqual([5, 4]);
  // What lingers is applied at the end.
  await cluster.stopEdges();
  expect(await transactions(cluster)).toEqual([5, 4, 1]);
}, 120_000);
