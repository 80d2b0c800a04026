/**
 * A gateway request that was repeated on another master is one write, also where one of its writes was overwritten before it left its master as it
 * was: re-read values (an unchanged vector, a large transaction) and copies carry only the newest state of a key.
 */
import { expect, test } from '@jest/globals';
import { foundTestCluster, listeningLogger, type TestCluster } from '#core/testing/cluster.pg.ts';
import { copyKeys } from '#core/verify/copy-states.pg.ts';

const dimension = 1024; // 4 kB: stored out of line, and not in the WAL of an update that leaves it alone
const request = '0190b2a4-0000-7000-8000-00000000abcd';

const vector = `[${Array.from({ length: dimension }, (_, at) => (at % 7) / 8).join(',')}]`;

async function repeatElsewhere(cluster: TestCluster, { crdt }: { crdt: boolean }): Promise<void> {
  await cluster.create('docs', {
    dimension,
    ...(crdt ? { conflicts: { strategy: 'crdt', crdt: { hits: 'pn-counter' } } } : {}),
  });
  await cluster.query(0, `insert into docs values ('k', $1, '{}')`, [vector]);
  cluster.replicate();
  await cluster.caughtUp();
  await cluster.stopEdges();
  for (const place of [0, 1]) {
    const client = await cluster.client(place);
    await client.query(
      `begin; set local pgquorum.request = '${request}'; update docs set metadata = '{"by":"the request"}'; commit`,
    );
  }
  // The repeat is overwritten before anybody reads it, by a write that has not seen the first try.
  await cluster.query(1, `update docs set metadata = '{"by":"another"}'`);
}

const openAt = (cluster: TestCluster, place: number) =>
  cluster.query(place, `select key, loser_origin as origin from pgquorum.conflict where state = 'open'`);
const heardAt = (cluster: TestCluster, place: number) =>
  cluster.query(
    place,
    `select origin, clock is not null as clocked from pgquorum.request where request = $1 order by origin`,
    [request],
  );

test.each([
  ['its unchanged vector', {}],
  ['its large transaction', { transactionBytesMax: 1 }],
] as const)(
  'a repeat that was overwritten when it was re-read for %s is heard of on every master, and the first try stays open on none',
  async (_, overrides) => {
    await using cluster = await foundTestCluster({ count: 3 });
    await repeatElsewhere(cluster, { crdt: false });
    cluster.replicate(overrides);
    await cluster.caughtUp();
    await cluster.caughtUp();
    for (const place of [0, 1, 2]) {
      expect(await openAt(cluster, place)).toEqual([]);
      expect(await heardAt(cluster, place)).toEqual([
        { origin: 1, clocked: false },
        { origin: 2, clocked: false },
      ]);
    }
    const [first, second, third] = await cluster.states('docs');
    expect(second).toEqual(first);
    expect(third).toEqual(first);
  },
  120_000,
);

test.each([false, true])(
  'a copy of whole states tells of the requests of writes that were overwritten, with CRDT fields (%s) of what they had seen',
  async (crdt) => {
    await using cluster = await foundTestCluster({ count: 3 });
    await repeatElsewhere(cluster, { crdt });
    // The third master hears of the first try by its log, and of the rest by a copy.
    cluster.edge(0, 2);
    await cluster.caughtUp();
    const options = {
      cluster: cluster.cluster,
      collection: 'docs',
      source: cluster.nodes[1]!,
      target: cluster.nodes[2]!,
      logger: listeningLogger().logger,
      signal: new AbortController().signal,
    };
    for await (const step of copyKeys(options, [['k']])) expect(step.refused).toEqual([]);
    expect(await openAt(cluster, 2)).toEqual([]);
    expect(await heardAt(cluster, 2)).toEqual([
      { origin: 1, clocked: crdt },
      { origin: 2, clocked: crdt },
    ]);
  },
  120_000,
);
