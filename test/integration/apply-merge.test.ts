/** What masters hold after they have heard of each other's writes. */
import { expect, test } from '@jest/globals';
import { WalChangeLog } from '#core/changelog/wal.pg.ts';
import { ApplySession } from '#core/apply/session.pg.ts';
import { foundTestCluster, type TestCluster } from '#core/testing/cluster.pg.ts';
import { eventually } from '#core/testing/wait.process.ts';

const conflicts = (cluster: TestCluster, place: number) =>
  cluster.query<{
    key: string;
    kind: string;
    state: string;
    loser: string;
    row: Record<string, string> | null;
  }>(
    place,
    `select key, kind, state, loser_origin || '.' || loser_counter as loser, loser_row as row from pgquorum.conflict order by key, loser_origin, loser_counter`,
  );

const expectAlike = async (cluster: TestCluster, collection = 'docs') => {
  const [first, ...others] = await cluster.states(collection);
  for (const other of others) expect(other).toEqual(first);
  return first!;
};

/** Until nothing more is on its way: what one edge applied may be published by another one. */
const settled = async (cluster: TestCluster) => {
  for (let round = 0; round < 2; round += 1) await cluster.caughtUp();
};

test('concurrent writes on three masters end in the same winner everywhere, with a record of every loser on every master', async () => {
  await using cluster = await foundTestCluster({ count: 3, collections: ['docs'] });
  await cluster.query(0, `insert into docs select 'k' || i, '[0,0,0]' from generate_series(1, 4) i`);
  cluster.replicate();
  await settled(cluster);
  await cluster.stopEdges();
  for (const place of [0, 1, 2])
    await cluster.query(place, `update docs set metadata = '{"by":${place + 1}}' where id = 'k1'`); // update against update
  for (const place of [0, 1, 2])
    await cluster.query(place, `insert into docs values ('new', '[1,1,1]', '{"by":${place + 1}}')`); // insert against insert
  await cluster.query(0, `update docs set metadata = '{"by":1}' where id = 'k2'`);
  await cluster.query(1, `delete from docs where id = 'k2'`); // the delete is later
  await cluster.query(1, `delete from docs where id = 'k3'`);
  await cluster.query(0, 'select pg_sleep(0.01)'); // within one millisecond the greater node would win
  await cluster.query(0, `update docs set metadata = '{"by":1}' where id = 'k3'`); // the update is later
  for (const place of [0, 1]) await cluster.query(place, `delete from docs where id = 'k4'`);
  cluster.replicate();
  await settled(cluster);
  await expectAlike(cluster);
  expect(await cluster.query(2, `select id, metadata ->> 'by' as by from docs order by id`)).toEqual([
    { id: 'k1', by: '3' },
    { id: 'k3', by: '1' },
    { id: 'new', by: '3' },
  ]);
  const [first, ...others] = await Promise.all([0, 1, 2].map((place) => conflicts(cluster, place)));
  const open = first!.filter((record) => record.state === 'open');
  expect(open.map(({ key, kind, row }) => [key, kind, row?.metadata ?? null])).toEqual([
    ['k1', 'update-update', '{"by": 1}'],
    ['k1', 'update-update', '{"by": 2}'],
    ['k2', 'delete-update', '{"by": 1}'],
    ['k3', 'update-delete', null],
    ['k4', 'delete-delete', null],
    ['new', 'insert-insert', '{"by": 1}'],
    ['new', 'insert-insert', '{"by": 2}'],
  ]);
  expect(open[0]!.row).toEqual({ id: 'k1', embedding: '[0,0,0]', metadata: '{"by": 1}' });
  for (const other of others) expect(other.filter((record) => record.state === 'open')).toEqual(open);
  // A write that has seen the winner supersedes the losers, everywhere.
  await cluster.query(1, `update docs set metadata = '{"by":"resolver"}' where id = 'k1'`);
  await settled(cluster);
  for (const place of [0, 1, 2])
    expect(
      (await conflicts(cluster, place)).filter((record) => record.key === 'k1').map((record) => record.state),
    ).toEqual(['superseded', 'superseded']);
  await expectAlike(cluster);
}, 120_000);

test('equal times are decided by the number of the node, alike on both', async () => {
  await using cluster = await foundTestCluster({ count: 2, collections: ['docs'] });
  for (const place of [0, 1]) {
    await cluster.query(
      place,
      `begin; insert into docs values ('k', '[1,2,3]', '{"by":${place + 1}}'); update pgquorum.version_docs set hlc = 117000000000000000; commit`,
    );
  }
  cluster.replicate();
  await settled(cluster);
  await expectAlike(cluster);
  expect(await cluster.query(0, `select metadata ->> 'by' as by from docs`)).toEqual([{ by: '2' }]);
}, 120_000);

test('with one writer, whatever it does, there is never a conflict record', async () => {
  await using cluster = await foundTestCluster({ count: 3, collections: ['docs'] });
  cluster.replicate({ lanes: 3, batchSize: 20 });
  for (let n = 0; n < 300; n += 1) {
    const key = `k${(n * 11) % 17}`;
    if (n % 7 === 3) await cluster.query(0, 'delete from docs where id = $1', [key]);
    else if (n % 31 === 5)
      await cluster.query(0, `update docs set id = id || 'm' where id = $1`, [key]).catch(() => undefined); // the other key may be taken
    else if (n % 97 === 50) await cluster.query(0, 'truncate docs');
    else
      await cluster.query(
        0,
        `insert into docs values ($1, '[1,2,3]', $2) on conflict (id) do update set metadata = excluded.metadata`,
        [key, JSON.stringify({ n })],
      );
    if (n === 150) {
      await cluster.stopEdges();
      cluster.replicate({ lanes: 2 });
    }
  }
  await settled(cluster);
  await expectAlike(cluster);
  for (const place of [0, 1, 2]) expect(await conflicts(cluster, place)).toEqual([]);
}, 120_000);

test('a single writer that moves from master to master leaves none either', async () => {
  await using cluster = await foundTestCluster({ count: 2, collections: ['docs'] });
  cluster.replicate();
  for (let n = 0; n < 12; n += 1) {
    await cluster.query(
      n % 2,
      `insert into docs values ('k', '[1,2,3]', $1) on conflict (id) do update set metadata = excluded.metadata`,
      [JSON.stringify({ n })],
    );
    await cluster.caughtUp();
  }
  const lines = await expectAlike(cluster);
  expect(lines).toHaveLength(2);
  for (const place of [0, 1]) expect(await conflicts(cluster, place)).toEqual([]);
}, 120_000);

test.each([false, true])(
  'changes that are delivered again change nothing (origin privileges: %s)',
  async (originPrivileges) => {
    await using cluster = await foundTestCluster({ count: 2, collections: ['docs'], originPrivileges });
    await cluster.query(0, `insert into docs select 'k' || i, '[1,2,3]' from generate_series(1, 50) i`);
    await cluster.query(
      1,
      `insert into docs select 'k' || i, '[3,2,1]', '{"by":2}' from generate_series(40, 60) i`,
    );
    await cluster.query(0, `delete from docs where id in ('k1', 'k2'); `);
    await cluster.query(0, `update docs set metadata = '{"n":1}' where id = 'k3'`);
    // Nothing is confirmed to the slots, as if the replicator had been killed each time.
    const forgetful = () =>
      cluster.replicate({
        openReader: (from) => {
          const origin = cluster.nodes.find((node) =>
            from.source.slot!.endsWith(`_${node.number}_${3 - node.number}`),
          )!;
          const log = new WalChangeLog({
            node: origin.address,
            origin: origin.number,
            slot: from.source.slot!,
            publication: from.source.publication,
            transactionBytesMax: 1 << 20,
          });
          return Promise.resolve({
            origin: log.origin,
            read: (options) => log.read(options),
            confirm: () => undefined,
            positions: () => log.positions(),
            close: () => log.close(),
          });
        },
      });
    const progress = await Promise.all(
      [0, 1].map((place) =>
        cluster.query<{ position: string }>(place, 'select position::text from pgquorum.progress'),
      ),
    );
    forgetful();
    await settled(cluster);
    const before = await expectAlike(cluster);
    const records = await conflicts(cluster, 0);
    expect(records).toHaveLength(11);
    for (let again = 0; again < 2; again += 1) {
      await cluster.stopEdges();
      for (const place of [0, 1])
        await cluster.query(place, 'update pgquorum.progress set position = $1', [
          progress[place]![0]!.position,
        ]);
      forgetful();
      await settled(cluster);
      expect(cluster.edges.reduce((sum, edge) => sum + edge.counts.written, 0)).toBe(0);
      expect(cluster.edges.reduce((sum, edge) => sum + edge.counts.skipped, 0)).toBeGreaterThanOrEqual(50);
      expect(await expectAlike(cluster)).toEqual(before);
      expect(await conflicts(cluster, 0)).toEqual(records);
    }
  },
  60_000,
);

test('the number of lanes may change between runs: no lane forgets what another one held', async () => {
  await using cluster = await foundTestCluster({ count: 2, collections: ['docs'] });
  let written = 0;
  for (const lanes of [1, 4, 2, 3, 1]) {
    await cluster.query(
      0,
      `insert into docs select 'k' || i, '[1,2,3]' from generate_series($1::int, $2::int) i`,
      [written, written + 99],
    );
    written += 100;
    cluster.replicate({ lanes });
    await settled(cluster);
    await cluster.stopEdges();
    const rows = await cluster.query<{ lane: number }>(1, 'select lane from pgquorum.progress order by lane');
    expect(rows.map((row) => row.lane)).toEqual(Array.from({ length: lanes }, (_, lane) => lane));
    await expectAlike(cluster);
  }
  expect((await cluster.query(1, 'select from docs')).length).toBe(500);
  expect(await conflicts(cluster, 1)).toEqual([]);
}, 120_000);

test.each([
  [true, 18],
  [false, 18],
  [true, 16],
] as const)(
  'replication origins granted: %s, on Postgres %i: sessions are marked if they may be, and peers do not send back what they got',
  async (originPrivileges, major) => {
    await using cluster = await foundTestCluster({
      count: 3,
      major,
      originPrivileges,
      collections: ['docs'],
    });
    cluster.replicate();
    await Promise.all(
      [0, 1, 2].map((place) =>
        cluster.query(
          place,
          `insert into docs select 'n${place}k' || i, '[1,2,3]' from generate_series(1, 100) i`,
        ),
      ),
    );
    await settled(cluster);
    await expectAlike(cluster);
    // Each of six edges brought the hundred rows of its origin, and none of what the third one had written there.
    for (const edge of cluster.edges) expect([edge.counts.written, edge.counts.skipped]).toEqual([100, 0]);
    const session = await ApplySession.open({
      node: cluster.nodes[0]!.address,
      application: 'probe',
      originName: `probe_${cluster.cluster}`,
    });
    try {
      expect([session.marked, session.replicaRole]).toEqual([originPrivileges, originPrivileges]);
    } finally {
      await session.close();
    }
    const origins = await cluster.asSuper(
      0,
      `select from pg_replication_origin where roname like 'pgquorum\\_${cluster.cluster}\\_wal%'`,
    );
    if (originPrivileges) expect(origins.length).toBeGreaterThanOrEqual(4);
  },
  60_000,
);

test('requests are remembered on every replica, and a repeat on another master is no conflict', async () => {
  await using cluster = await foundTestCluster({ count: 2, collections: ['docs'] });
  const request = '0190b2a4-0000-7000-8000-00000000abcd';
  for (const place of [0, 1]) {
    const client = await cluster.client(place);
    await client.query(
      `set pgquorum.request = '${request}'; insert into docs values ('k', '[1,2,3]', '{"n":1}')`,
    );
  }
  cluster.replicate();
  await settled(cluster);
  await expectAlike(cluster);
  for (const place of [0, 1]) {
    expect(await conflicts(cluster, place)).toEqual([]);
    expect(
      await cluster.query(place, `select origin from pgquorum.request where request = $1 order by origin`, [
        request,
      ]),
    ).toEqual([{ origin: 1 }, { origin: 2 }]);
  }
}, 120_000);

test('records are the same on every master, whatever time zone a database has', async () => {
  await using cluster = await foundTestCluster({ count: 2, collections: ['docs'] });
  for (const [place, zone] of [
    [0, 'Asia/Kathmandu'],
    [1, 'America/St_Johns'],
  ] as const) {
    const [{ name }] = (await cluster.query<{ name: string }>(
      place,
      'select current_database() as name',
    )) as [{ name: string }];
    await cluster.asSuper(
      place,
      `alter database "${name}" set timezone = '${zone}'; alter database "${name}" set bytea_output = '${place === 0 ? 'escape' : 'hex'}'`,
    );
    await cluster.query(place, 'alter table docs add at timestamptz, add raw bytea');
    await cluster.query(
      place,
      `insert into docs values ('k', '[1,2,3]', '{"by":${place}}', '2026-01-31 12:00:00+00', '\\x00ff5c')`,
    );
  }
  cluster.replicate();
  await settled(cluster);
  await expectAlike(cluster);
  expect(await eventually('a record', async () => (await conflicts(cluster, 1))[0])).toMatchObject({
    row: { at: '2026-01-31 12:00:00+00', raw: '\\x00ff5c' },
  });
}, 120_000);

test('a replication origin that another session has is no obstacle: versions say themselves who wrote them', async () => {
  await using cluster = await foundTestCluster({ count: 2, originPrivileges: true, collections: ['docs'] });
  const name = (lane: number) => `pgquorum_${cluster.cluster}_wal_1_2_${lane}`;
  const holders = await Promise.all(
    [0, 1].map((lane) =>
      ApplySession.open({ node: cluster.nodes[1]!.address, application: 'holder', originName: name(lane) }),
    ),
  );
  expect(holders.map((holder) => holder.marked)).toEqual([true, true]);
  cluster.replicate();
  await cluster.query(0, `insert into docs select 'k' || i, '[1,2,3]' from generate_series(1, 50) i`);
  await settled(cluster);
  await expectAlike(cluster);
  const back = cluster.edges.find((edge) => edge.target === cluster.nodes[0])!;
  expect([back.counts.written, back.counts.skipped]).toEqual([0, 0]);
  await Promise.all(holders.map((holder) => holder.close()));
}, 120_000);
