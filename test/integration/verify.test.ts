/** Verification of three masters: what it finds, what it mends, and what it does not take for a difference. */
import { expect, test } from '@jest/globals';
import { foundTestCluster, type TestCluster } from '#core/testing/cluster.pg.ts';
import type { Report } from '#core/verify/report.ts';
import { pretendCaughtUp, runVerify } from './verify/run-verify.ts';

const founded = () => foundTestCluster({ count: 3, major: [18, 16, 18], collections: ['docs'] });

/** What only passes the triggers by: a session of the own role that says it applies. */
async function behindTriggers(cluster: TestCluster, place: number, text: string): Promise<void> {
  const client = await cluster.client(place);
  await client.query(`set pgquorum.apply = 'on'`);
  await client.query(text);
  await client.end();
}

const expectAlike = async (cluster: TestCluster): Promise<void> => {
  const [first, ...others] = await cluster.states('docs');
  for (const other of others) expect(other).toEqual(first);
};

const byText = (a: unknown, b: unknown): number => (String(a) < String(b) ? -1 : 1);
const kinds = (report: Report) => report.listed.map((one) => [one.key, one.kind, one.outcome]).sort(byText);

test('masters that agree differ in nothing, on two majors, deep or not', async () => {
  await using cluster = await founded();
  cluster.replicate();
  await cluster.query(
    0,
    `insert into docs select 'k' || i, array[i, 1.0 / i, -0.1]::vector, jsonb_build_object('n', i, 'f', 1.10) from generate_series(1, 500) i`,
  );
  await cluster.query(1, `delete from docs where id like 'k1%'`);
  await cluster.caughtUp();
  for (const place of [0, 1, 2])
    await cluster.query(place, `update docs set metadata = '{"by":${place}}' where id in ('k2', 'k3')`);
  await cluster.caughtUp();
  await cluster.caughtUp();
  for (const deep of [false, true]) {
    const report = await runVerify(cluster, { deep });
    expect(report).toMatchObject({
      differences: 0,
      inFlight: 0,
      shards: 8,
      keys: 500,
      unreachable: [],
      behind: [],
    });
  }
}, 240_000);

test('a dry run reports each difference with what every node has, and changes nothing', async () => {
  await using cluster = await founded();
  // Nothing is delivered, and nothing is on its way for those who ask: the progress is set beyond all that is there.
  await cluster.query(0, `insert into docs select 'k' || i, '[1,2,3]' from generate_series(1, 3) i`);
  await cluster.query(1, `insert into docs values ('k3', '[3,2,1]')`);
  await pretendCaughtUp(cluster);
  const before = await cluster.states('docs');
  const report = await runVerify(cluster, { repair: 'none' });
  expect(await cluster.states('docs')).toEqual(before);
  expect(kinds(report)).toEqual([
    ['k1', 'missing', 'found'],
    ['k2', 'missing', 'found'],
    ['k3', 'missing', 'found'],
  ]);
  const [dots] = await cluster.query<{ dot: string }>(
    1,
    `select origin || '.' || counter as dot from pgquorum.version_docs`,
  );
  expect(report.listed.find((one) => one.key === 'k3')!.nodes).toMatchObject({
    n2: { version: dots!.dot, deleted: false, row: true, openConflicts: [] },
    n3: { version: null, deleted: false, row: false, openConflicts: [] },
  });
  expect(report).toMatchObject({
    differences: 3,
    byKind: { missing: 3 },
    byOutcome: { found: 3 },
    truncated: false,
  });
}, 240_000);

test('merge mends lost writes, deletes and conflict records both ways, in pages', async () => {
  await using cluster = await founded();
  cluster.replicate();
  await cluster.query(0, `insert into docs select 'k' || i, '[1,2,3]' from generate_series(1, 300) i`);
  await cluster.caughtUp();
  await cluster.stopEdges();
  await cluster.query(0, `update docs set metadata = '{"by":0}' where id between 'k1' and 'k2'`);
  await cluster.query(1, `update docs set metadata = '{"by":1}' where id between 'k19' and 'k3'`);
  await cluster.query(2, `delete from docs where id like 'k5%'`);
  await cluster.query(2, `insert into docs select 'new' || i, '[1,2,3]' from generate_series(1, 20) i`);
  await pretendCaughtUp(cluster);
  const report = await runVerify(cluster, { repair: 'merge' }, { pageKeys: 40 });
  expect(report.differences).toBeGreaterThan(200);
  expect(report.byOutcome).toEqual({ found: 0, mended: report.differences, refused: 0, left: 0 });
  await expectAlike(cluster);
  expect(
    await cluster.query(0, `select count(*)::int as n from pgquorum.conflict where state = 'open'`),
  ).toEqual([{ n: 12 }]);
  expect(await runVerify(cluster, { deep: true })).toMatchObject({ differences: 0 });
  // A record that is open on one node alone is found and mended too.
  await behindTriggers(cluster, 1, `delete from pgquorum.conflict where key = 'k19'`);
  expect(kinds(await runVerify(cluster, { repair: 'merge' }))).toEqual([['k19', 'conflicts', 'mended']]);
  await expectAlike(cluster);
}, 240_000);

test('deep finds what was changed behind the triggers, and only the operator decides which row is right', async () => {
  await using cluster = await founded();
  cluster.replicate();
  await cluster.query(0, `insert into docs select 'k' || i, '[1,2,3]' from generate_series(1, 60) i`);
  await cluster.query(0, `delete from docs where id = 'k9'`);
  await cluster.caughtUp();
  await behindTriggers(cluster, 1, `update docs set metadata = '{"secret":1}' where id = 'k1'`);
  await behindTriggers(cluster, 1, `update docs set embedding = '[1,2,3.0000002]' where id = 'k2'`);
  await behindTriggers(cluster, 2, `delete from docs where id = 'k3'`);
  await behindTriggers(cluster, 1, `insert into docs values ('k9', '[9,9,9]')`);
  await behindTriggers(cluster, 1, `insert into docs values ('alone', '[7,7,7]')`);
  expect(await runVerify(cluster, {})).toMatchObject({ differences: 0 });

  const before = await cluster.states('docs');
  const dry = await runVerify(cluster, { deep: true });
  expect(kinds(dry)).toEqual([
    ['alone', 'unversioned-row', 'found'],
    ['k1', 'row', 'found'],
    ['k2', 'row', 'found'],
    ['k3', 'missing-row', 'found'],
    ['k9', 'unexpected-row', 'found'],
  ]);
  expect(JSON.stringify(dry)).not.toContain('secret');
  const digests = dry.listed.find((one) => one.key === 'k1')!.nodes;
  expect(digests['n1']!.rowDigest).toBe(digests['n3']!.rowDigest);
  expect(digests['n1']!.rowDigest).not.toBe(digests['n2']!.rowDigest);
  expect(await cluster.states('docs')).toEqual(before);

  const merged = await runVerify(cluster, { deep: true, repair: 'merge' });
  expect(kinds(merged)).toEqual([
    ['alone', 'unversioned-row', 'mended'],
    ['k1', 'row', 'left'],
    ['k2', 'row', 'left'],
    ['k3', 'missing-row', 'left'],
    ['k9', 'unexpected-row', 'left'],
  ]);
  expect(await cluster.query(2, `select id from docs where id = 'alone'`)).toHaveLength(1);

  const preferred = await runVerify(cluster, { deep: true, repair: 'prefer:n2' });
  expect(kinds(preferred)).toEqual([
    ['k1', 'row', 'mended'],
    ['k2', 'row', 'mended'],
    ['k3', 'missing-row', 'mended'],
    ['k9', 'unexpected-row', 'mended'],
  ]);
  await cluster.caughtUp();
  await expectAlike(cluster);
  expect(
    await cluster.query(
      0,
      `select id, embedding::text, metadata from docs where id in ('k1', 'k2', 'k3', 'k9') order by 1`,
    ),
  ).toEqual([
    { id: 'k1', embedding: '[1,2,3]', metadata: { secret: 1 } },
    { id: 'k2', embedding: '[1,2,3.0000002]', metadata: {} },
    { id: 'k3', embedding: '[1,2,3]', metadata: {} },
    { id: 'k9', embedding: '[9,9,9]', metadata: {} },
  ]);
  // It is a write like any other: the next one has seen it, and no conflict was made of it.
  await cluster.query(2, `update docs set metadata = '{"after":true}' where id = 'k1'`);
  await cluster.caughtUp();
  await expectAlike(cluster);
  expect(
    await cluster.query(0, `select key from pgquorum.conflict where state = 'open' and key in ('k1', 'k2')`),
  ).toEqual([]);
  expect(await runVerify(cluster, { deep: true })).toMatchObject({ differences: 0 });
}, 240_000);

test('the preferred node may be the one that lost the row: then it is deleted everywhere, and kept nowhere in silence', async () => {
  await using cluster = await founded();
  cluster.replicate();
  await cluster.query(0, `insert into docs values ('k', '[1,2,3]')`);
  await cluster.caughtUp();
  await behindTriggers(cluster, 2, `delete from docs`);
  const report = await runVerify(cluster, { deep: true, repair: 'prefer:n3', collection: 'docs' });
  expect(kinds(report)).toEqual([['k', 'missing-row', 'mended']]);
  await cluster.caughtUp();
  await expectAlike(cluster);
  expect(await cluster.query(0, 'select deleted from pgquorum.version_docs')).toEqual([{ deleted: true }]);
}, 240_000);

test('while users write everywhere, nothing that is merely on its way is reported', async () => {
  await using cluster = await founded();
  cluster.replicate();
  await cluster.query(0, `insert into docs select 'k' || i, '[1,2,3]' from generate_series(1, 200) i`);
  let writing = true;
  const users = [0, 1, 2].map(async (place) => {
    for (let n = 0; writing; n += 1) {
      const id = `k${((n * 13 + place) % 200) + 1}`;
      await cluster.query(place, `update docs set metadata = $1 where id = $2`, [{ n, place }, id]);
      if (n % 6 === 0)
        await cluster.query(place, `insert into docs values ($1, '[1,2,3]')`, [`own ${place} ${n}`]);
      if (n % 9 === 0) await cluster.query(place, 'delete from docs where id = $1', [`own ${place} ${n}`]);
    }
  });
  for (const deep of [false, true]) {
    const report = await runVerify(cluster, { deep, repair: 'none' });
    expect(report.listed).toEqual([]);
    expect(report.differences).toBe(0);
  }
  writing = false;
  await Promise.all(users);
  await cluster.caughtUp();
  await cluster.caughtUp();
  expect(await runVerify(cluster, { deep: true })).toMatchObject({ differences: 0, inFlight: 0 });
  await expectAlike(cluster);
}, 240_000);
