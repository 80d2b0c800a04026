/**
 * A third master joins two that have collections, while users write on them, through each change log. Its replicator is killed in the middle of the copying.
 * Until it is filled no gateway asks it; at the end all hold the same, its index is there, and what is written on it reaches the others.
 */
import { describe, expect, test } from '@jest/globals';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { createCollection } from '#core/collections/catalog.pg.ts';
import { sharedKafka } from '#core/testing/broker.kafka.ts';
import { changeLogs, type LogName } from '#core/testing/change-logs.os.ts';
import { withMasters, type Masters, type TestMaster } from '#core/testing/masters.pg.ts';
import { eventually } from '#core/testing/wait.process.ts';
import { foundCluster } from '#core/topology/found.pg.ts';
import type { NodeAddress } from '#core/config/settings.ts';
import { Prng } from '../simulation/prng.ts';
import { convergedMasters } from './convergence/compare.ts';
import { Ledger } from './convergence/ledger.ts';
import { AppProcess } from './convergence/processes.ts';
import { readFinal, withClient } from './convergence/states.ts';
import { RandomWriter } from './convergence/writer.ts';
import { startGateway, type TestGateway } from './gateway-fixture.ts';

const collection = 'docs';
/** Nobody writes it, and it is copied last. */
const calm = 'unwritten';
const definition = {
  dimension: 8,
  metric: 'cosine',
  vectorType: 'vector',
  shards: 4,
  writes: 'any',
  conflicts: { strategy: 'lww' },
  index: { type: 'hnsw', m: 16, efConstruction: 64 },
} as const;
const logs = await changeLogs(['wal']);

const query = async <T extends object>(
  master: TestMaster,
  sql: string,
  values: unknown[] = [],
): Promise<T[]> => withClient(master, async (client) => (await client.query<T>(sql, values)).rows);

interface Scene {
  readonly masters: Masters;
  readonly cluster: string;
  readonly nodes: readonly NodeAddress[];
  readonly brokers: readonly string[] | null;
}

const settings = ({ cluster, brokers }: Scene, listed: readonly NodeAddress[]) => ({
  PGQUORUM_NODES: JSON.stringify(listed),
  PGQUORUM_CLUSTER: cluster,
  ...(brokers === null ? {} : { PGQUORUM_KAFKA_BROKERS: brokers.join(',') }),
});

function replicatorsOf(scene: Scene, listed: readonly NodeAddress[]): AppProcess[] {
  return listed.map(
    ({ name }) =>
      new AppProcess(
        'replicator',
        // The copying takes a moment, so that it can be interrupted.
        {
          ...settings(scene, listed),
          PGQUORUM_REPLICATOR_NODES: name,
          PGQUORUM_RESYNC_KEYS_PER_S: '200',
        },
        join(scene.masters.folder, `replicator-${name}.log`),
      ),
  );
}

const joiningOf = async (master: TestMaster): Promise<boolean> =>
  (
    await query<{ joining: boolean }>(
      master,
      'select joining_since is not null as joining from pgquorum.node',
    )
  )[0]!.joining;

/** Asks a gateway that knows of all three: it answers from the two that have everything. */
async function askOthers(gateway: TestGateway): Promise<void> {
  const answers = await Promise.all(
    Array.from({ length: 6 }, () => gateway.send('GET', `/v1/collections/${calm}/vectors/key1`)),
  );
  expect(answers.map(({ status }) => status)).toEqual([200, 200, 200, 200, 200, 200]);
  for (let times = 0; times < 3; times += 1) {
    const found = await gateway.send('POST', `/v1/collections/${calm}/search`, {
      body: { embedding: [0, 0, 0, 0, 0, 0, 0, 1], k: 50 },
    });
    expect((found.body as { matches: unknown[] }).matches).toHaveLength(50);
  }
}

async function killWhileCopying(third: TestMaster, replicator: AppProcess): Promise<void> {
  await eventually(
    'the copying is under way',
    async () => (await query(third, 'select from pgquorum.resync where copied > 0')).length > 0,
    { everyMs: 5, withinMs: 60_000 },
  );
  await replicator.kill('SIGKILL');
}

async function joinThird(scene: Scene, replicators: AppProcess[]): Promise<void> {
  const third = scene.masters.nodes[2]!;
  for (const replicator of replicators.splice(0)) await replicator.kill('SIGTERM');
  replicators.push(...replicatorsOf(scene, scene.nodes));
  for (const replicator of replicators) replicator.start();
  await eventually('the third master is a node that joins', async () => joiningOf(third).catch(() => false), {
    withinMs: 60_000,
  });
  await killWhileCopying(third, replicators[2]!);
  const { cluster, nodes, brokers } = scene;
  await using gateway = await startGateway({
    nodes: nodes.map(({ name, url, zone }) => ({ name, url, zone })),
    cluster,
    ...(brokers === null ? {} : { env: { PGQUORUM_KAFKA_BROKERS: brokers.join(',') } }),
  });
  expect((await gateway.send('GET', '/v1/cluster/nodes')).body).toMatchObject({
    items: [
      { id: nodes[0]!.name },
      { id: nodes[1]!.name },
      { id: nodes[2]!.name, status: expect.stringMatching(/joining|suspect/) },
    ],
  });
  // It has a part of the rows, and nobody to bring it the others.
  await askOthers(gateway);
  expect(await joiningOf(third)).toBe(true);
  replicators[2]!.start();
  await eventually('the third master has joined', async () => !(await joiningOf(third)), {
    withinMs: 180_000,
  });
}

async function checkJoined({ masters }: Scene): Promise<void> {
  const third = masters.nodes[2]!;
  expect(
    await query(
      third,
      `select i.indisvalid from pg_index i where i.indexrelid = 'public.docs_embedding'::regclass`,
    ),
  ).toEqual([{ indisvalid: true }]);
  expect(
    await query(
      third,
      `select body ->> 'status' as status from pgquorum.event where type = 'replica-status' and body ->> 'before' = 'joining'`,
    ),
  ).toEqual([{ status: 'active' }]);
  await query(
    third,
    `insert into ${collection} (id, embedding) values ('from-the-third', '[1,0,0,0,0,0,0,0]')`,
  );
  for (const master of masters.nodes)
    await eventually(
      'a write on the third reaches all',
      async () => (await query(master, `select from ${collection} where id = 'from-the-third'`)).length === 1,
    );
}

async function run(log: LogName, masters: Masters): Promise<void> {
  const cluster = `join-${Math.random().toString(36).slice(2, 8)}`;
  const nodes = masters.nodes.map(({ name, url, zone }) => ({ name, url, zone, weight: 1 }));
  const brokers = log === 'kafka' ? (await sharedKafka()).brokers : null;
  const scene: Scene = { masters, cluster, nodes, brokers };
  const two = nodes.slice(0, 2);
  const found = await foundCluster({ nodes: two, cluster, log });
  for (const name of [collection, calm]) await createCollection({ nodes: two, name, definition });
  for (const name of [collection, calm])
    await query(
      masters.nodes[0]!,
      `insert into ${name} select 'key' || i, array_fill(i, array[8])::vector from generate_series(1, 150) i`,
    );
  const replicators = replicatorsOf(scene, two);
  const ledger = new Ledger();
  const prng = new Prng(Math.floor(Math.random() * 2 ** 31));
  const writer = new RandomWriter({
    masters: masters.nodes.slice(0, 2),
    ledger,
    random: () => prng.next() / 2 ** 32,
    collection,
    keys: 150,
    dimension: 8,
    gateway: null,
    numbers: new Map(found.map(({ name, number }) => [name, number])),
  });
  let writing = true;
  const work = async (): Promise<void> => {
    for (; writing; await sleep(15)) await writer.one();
  };
  try {
    for (const replicator of replicators) replicator.start();
    await eventually(
      'the second master has the rows',
      async () => {
        const rows = await query(masters.nodes[1]!, `select from ${calm}`);
        return rows.length === 150;
      },
      { withinMs: 60_000 },
    );
    // As after purging: under a horizon that every living row of the collection is under too.
    for (const master of masters.nodes.slice(0, 2))
      await query(
        master,
        `insert into pgquorum.horizon (collection, shard, hlc, clock) select '${calm}', s, 1, '{"1": 1000}' from generate_series(0, 3) s`,
      );
    const writes = Promise.all([work(), work()]);
    try {
      await joinThird(scene, replicators);
    } finally {
      writing = false;
      await writes;
    }
    for (const name of [collection, calm]) await convergedMasters(masters.nodes, name);
    for (const master of masters.nodes)
      expect(ledger.audit(await readFinal(master, collection)).slice(0, 10)).toEqual([]);
    expect(writer.counts.acknowledged).toBeGreaterThan(20);
    await checkJoined(scene);
    await convergedMasters(masters.nodes, collection);
    for (const replicator of replicators) expect(await replicator.kill('SIGTERM')).toBe(0);
  } finally {
    writing = false;
    await writer.close();
    await Promise.all(replicators.map((replicator) => replicator.kill('SIGKILL')));
  }
}

describe.each(logs)('through %s', (log) => {
  test('a master joins while the others are written, and its replicator is killed on the way', async () => {
    await withMasters({ count: 3 }, (masters) => run(log, masters));
  }, 500_000);
});
