/** The commit goes to the server along with the writes: whatever fails before it must keep it from taking effect. */
import { expect, test } from '@jest/globals';
import { LocalWriteSlippedIn } from '#core/apply/outcomes.ts';
import { ApplySession } from '#core/apply/session.pg.ts';
import { applyTransaction, type ApplyRequest } from '#core/apply/transaction.pg.ts';
import { foundTestCluster, type TestCluster } from '#core/testing/cluster.pg.ts';
import { SlotReading } from '#core/testing/slot-reading.pg.ts';

const openSession = (cluster: TestCluster): Promise<ApplySession> =>
  ApplySession.open({
    node: cluster.nodes[1]!.address,
    application: 'commit test',
    originName: `commit_${cluster.cluster}`,
  });

/** Writes rows on the first master, and tries to apply what its log says of them to the second one. */
async function applyRows(
  cluster: TestCluster,
  count: number,
  also: NonNullable<ApplyRequest['also']>,
): Promise<unknown> {
  await using reading = await SlotReading.start(cluster);
  await cluster.query(
    0,
    `insert into docs select 'k' || i, '[1,2,3]' from generate_series(1, $1) i on conflict (id) do update set embedding = '[4,5,6]'`,
    [count],
  );
  // The slot begins where it was made: the last writes are those of this call.
  const { last } = (
    await cluster.query<{ last: number }>(0, 'select max(counter)::int as last from pgquorum.version_docs')
  )[0]!;
  const changes = await reading.until(
    'the rows',
    ({ writes }) => writes.some((write) => write.version.dot.counter === last) && writes.slice(-count),
  );
  const session = await openSession(cluster);
  try {
    await applyTransaction(session, { changes, progress: null, lockTimeoutMs: 1000, also });
    return null;
  } catch (cause) {
    return cause;
  } finally {
    await session.close();
  }
}

const rowsAndVersions = async (cluster: TestCluster) =>
  (
    await cluster.query(
      1,
      'select (select count(*)::int from docs) as rows, (select count(*)::int from pgquorum.version_docs) as versions',
    )
  )[0];

test.each([1, 50])(
  'of %i rows nothing stays when the driver refuses to send one of the statements',
  async (count) => {
    await using cluster = await foundTestCluster({ count: 2, collections: ['docs'] });
    // The name of another prepared statement of the session.
    const refused = (session: ApplySession) => session.run('horizons', 'select 1', []);
    expect(await applyRows(cluster, count, refused)).toMatchObject({
      message: expect.stringMatching(/must be unique/),
    });
    expect(await rowsAndVersions(cluster)).toEqual({ rows: 0, versions: 0 });
    expect(await applyRows(cluster, count, () => Promise.resolve())).toBeNull();
    expect(await rowsAndVersions(cluster)).toEqual({ rows: count, versions: count });
  },
  60_000,
);

test('nothing stays when a version is not what it was read as', async () => {
  await using cluster = await foundTestCluster({ count: 2, collections: ['docs'] });
  expect(await applyRows(cluster, 1, () => Promise.resolve())).toBeNull();
  await cluster.asSuper(
    1,
    `create function keep_version() returns trigger language plpgsql as $$ begin return null; end $$;
     create trigger keep_version before update on pgquorum.version_docs for each row execute function keep_version();
     alter table pgquorum.version_docs enable always trigger keep_version`,
  );
  expect(await applyRows(cluster, 1, () => Promise.resolve())).toBeInstanceOf(LocalWriteSlippedIn);
  expect(await cluster.query(1, 'select embedding::text as embedding from docs')).toEqual([
    { embedding: '[1,2,3]' },
  ]);
}, 120_000);
