/**
 * Masters converge and lose nothing: random writes through random masters by SQL and HTTP, while replicators are killed and masters restarted,
 * through both change logs. At the end all masters hold the same rows, versions and open conflict records, and every acknowledged write is
 * accounted for (ledger.ts).
 *
 * Replay the choices of a run with PGQUORUM_TEST_SEED=<seed>; timing differs, so the same seed need not fail again. Longer:
 * PGQUORUM_TEST_OPERATIONS=<n> for each combination, or PGQUORUM_TEST_LONG=1 for all combinations. The bounded form makes 10,000 operations over four
 * combinations that cover each pair of log, privileges and versions.
 */
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, test } from '@jest/globals';
import { createCollection } from '#core/collections/catalog.pg.ts';
import { sharedKafka } from '#core/testing/broker.kafka.ts';
import { withMasters, type Masters, type TestMaster } from '#core/testing/masters.pg.ts';
import { foundCluster } from '#core/topology/found.pg.ts';
import { Prng } from '../simulation/prng.ts';
import { convergedMasters } from './convergence/compare.ts';
import { Ledger } from './convergence/ledger.ts';
import { AppProcess } from './convergence/processes.ts';
import { readFinal } from './convergence/states.ts';
import { RandomWriter, type WriterOptions } from './convergence/writer.ts';

interface Combination {
  readonly log: 'wal' | 'kafka';
  readonly originPrivileges: boolean;
  readonly majors: readonly (16 | 18)[];
}

const long = process.env['PGQUORUM_TEST_LONG'] === '1';
const bounded: readonly Combination[] = [
  { log: 'wal', originPrivileges: true, majors: [18, 18, 18] },
  { log: 'wal', originPrivileges: false, majors: [16, 18, 16] },
  { log: 'kafka', originPrivileges: true, majors: [16, 18, 16] },
  { log: 'kafka', originPrivileges: false, majors: [18, 18, 18] },
];
const all: readonly Combination[] = (['wal', 'kafka'] as const).flatMap((log) =>
  [true, false].flatMap((originPrivileges) =>
    (
      [
        [16, 16, 16],
        [18, 18, 18],
        [16, 18, 16],
      ] as const
    ).map((majors) => ({ log, originPrivileges, majors })),
  ),
);
const operations = Number(process.env['PGQUORUM_TEST_OPERATIONS'] ?? (long ? 20_000 : 2_500));
const seed = Number(process.env['PGQUORUM_TEST_SEED'] ?? Math.floor(Math.random() * 2 ** 31));
const skipped = (process.env['PGQUORUM_TEST_SKIP'] ?? '').split(/[\s,]+/);
const combinations = (long ? all : bounded).filter(
  ({ log }) => log !== 'kafka' || !skipped.includes('kafka'),
);

const collection = 'docs';
const writers = 6;

describe.each(combinations)(
  'through $log, origin privileges: $originPrivileges, Postgres $majors',
  (combination) => {
    test(
      `${operations} operations with kills and restarts leave all masters the same and no write unaccounted for`,
      async () => {
        process.stderr.write(
          `convergence ${combination.log} ${combination.originPrivileges} ${combination.majors.join('/')}: PGQUORUM_TEST_SEED=${seed}\n`,
        );
        await withMasters(
          {
            count: combination.majors.length,
            major: [...combination.majors],
            originPrivileges: combination.originPrivileges,
          },
          (masters) => run(combination, masters),
        );
      },
      long ? 1_800_000 : 900_000,
    );
  },
);

async function run(combination: Combination, masters: Masters): Promise<void> {
  const cluster = `conv-${Math.random().toString(36).slice(2, 8)}`;
  const nodes = masters.nodes.map(({ name, url, zone }) => ({ name, url, zone, weight: 1 }));
  const brokers = combination.log === 'kafka' ? (await sharedKafka()).brokers : null;
  const env = {
    PGQUORUM_NODES: JSON.stringify(nodes),
    PGQUORUM_CLUSTER: cluster,
    PGQUORUM_LOG_LEVEL: 'debug',
    ...(brokers === null ? {} : { PGQUORUM_KAFKA_BROKERS: brokers.join(',') }),
  };
  const numbers = new Map(
    (await foundCluster({ nodes, cluster, log: combination.log })).map((node) => [
      node.name,
      node.number as number,
    ]),
  );
  await createCollection({
    nodes,
    name: collection,
    definition: {
      dimension: 600,
      metric: 'cosine',
      vectorType: 'vector',
      shards: 64,
      writes: 'any',
      conflicts: { strategy: 'lww' },
      index: { type: 'none' },
    },
  });
  const replicators = nodes.map(
    ({ name }) =>
      new AppProcess(
        'replicator',
        { ...env, PGQUORUM_REPLICATOR_NODES: name },
        join(masters.folder, `replicator-${name}.log`),
      ),
  );
  const gateway = new AppProcess(
    'gateway',
    { ...env, PGQUORUM_HTTP_PORT: '0', PGQUORUM_GRPC_PORT: '0' },
    join(masters.folder, 'gateway.log'),
  );
  try {
    for (const app of [...replicators, gateway]) app.start();
    const ledger = await writeUnderFaults(masters.nodes, replicators, {
      gateway: (await gateway.listening()).http,
      numbers,
    });
    await convergedMasters(masters.nodes, collection);
    for (const master of masters.nodes)
      expect(ledger.audit(await readFinal(master, collection)).slice(0, 10)).toEqual([]);
    for (const replicator of replicators) expect(await replicator.kill('SIGTERM')).toBe(0);
  } finally {
    await Promise.all([...replicators, gateway].map((app) => app.kill('SIGKILL')));
  }
}

async function writeUnderFaults(
  masters: readonly TestMaster[],
  replicators: readonly AppProcess[],
  http: Pick<WriterOptions, 'gateway' | 'numbers'>,
): Promise<Ledger> {
  const ledger = new Ledger();
  const prng = new Prng(seed);
  const random = () => prng.next() / 2 ** 32;
  const writer = new RandomWriter({
    masters,
    ledger,
    random,
    collection,
    keys: 300,
    dimension: 600,
    ...http,
  });
  let done = 0;
  const work = async (): Promise<void> => {
    while (done < operations) {
      done += 1;
      await writer.one();
    }
  };
  const stopped = new AbortController();
  const faults = injectFaults(masters, replicators, random, stopped.signal);
  try {
    await Promise.all(Array.from({ length: writers }, work));
  } finally {
    stopped.abort();
    await faults;
    await writer.close();
  }
  const kinds = [...writer.kinds].map(([kind, count]) => `${kind} ${count}`).join(', ');
  process.stderr.write(
    `  ${JSON.stringify(writer.counts)}; ${ledger.size} versions; faults: ${JSON.stringify(await faults)}; ${kinds}\n`,
  );
  expect(writer.counts.acknowledged).toBeGreaterThan(operations * 0.5);
  return ledger;
}

async function injectFaults(
  masters: readonly TestMaster[],
  replicators: readonly AppProcess[],
  random: () => number,
  signal: AbortSignal,
): Promise<Record<string, number>> {
  const counts: Record<string, number> = { replicatorKilled: 0, masterRestarted: 0, masterKilled: 0 };
  const pause = (ms: number): Promise<void> => sleep(ms, undefined, { signal }).catch(() => undefined);
  while (!signal.aborted) {
    await pause(500 + random() * 1500);
    if (signal.aborted) break;
    const kind = random();
    const which = Math.floor(random() * masters.length);
    if (kind < 0.6) {
      await replicators[which]!.kill('SIGKILL');
      await pause(random() * 800);
      replicators[which]!.start();
      counts.replicatorKilled! += 1;
    } else if (kind < 0.8) {
      await masters[which]!.restart(random() < 0.5 ? 'fast' : 'immediate');
      counts.masterRestarted! += 1;
    } else {
      await masters[which]!.kill9();
      await pause(random() * 500);
      await masters[which]!.start();
      counts.masterKilled! += 1;
    }
  }
  return counts;
}
