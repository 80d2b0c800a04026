/**
 * All at once, for a while: on masters of both versions clients write by SQL and through two gateways (inserts, updates, deletes, re-inserts, changes of
 * keys, truncates, counters and sets, in an attached table too), while replicators, gateways and masters are killed, slots dropped, publications made anew,
 * lines cut, with Kafka the broker restarted, and a fourth master joins, leaves, and joins again as a new database. Then it is quiet, and everything is compared on all masters:
 * - rows, versions, CRDT states and open conflicts are the same, nothing is parked, and there are no dead letters;
 * - every acknowledged write is current, or was seen by what is, or is in a conflict record (convergence/ledger.ts), and counters add up;
 * - keys that one client alone writes have no conflict;
 * - each master has the slots of its readers and no other one, all gateways are ready, and all processes end in order.
 *
 * Through wal, some two minutes; the long form ten minutes for each log. It is written for so long, and until the fourth master is back:
 * a busy machine takes longer, and no deadline ends what still goes on.
 *
 *   PGQUORUM_TEST_SEED=<seed>           what is chosen; when it hits is up to the machine, so the same seed need not fail again
 *   PGQUORUM_TEST_MIXED_SECONDS=<n>     how long is written at least
 *   PGQUORUM_TEST_MIXED_LOG=wal|kafka   through this log
 */
import { describe, expect, test } from '@jest/globals';
import { setTimeout as sleep } from 'node:timers/promises';
import { startKafka, type KafkaBroker } from '#core/testing/broker.kafka.ts';
import { withMasters, type Masters } from '#core/testing/masters.pg.ts';
import { eventually } from '#core/testing/wait.process.ts';
import { Prng } from '../simulation/prng.ts';
import { Ledger } from './convergence/ledger.ts';
import { isLost } from './convergence/writer.ts';
import { Clients, Gate } from './mixed/clients.ts';
import { Crowd } from './mixed/crowd.ts';
import { injectFaults } from './mixed/faults.ts';
import { comeAndGo } from './mixed/membership.ts';
import { dimension, mixedCollections, query, Scene } from './mixed/scene.ts';
import { settled } from './mixed/settled.ts';
import { Tallies, tallyKeys } from './mixed/tallies.ts';

const long = process.env['PGQUORUM_TEST_LONG'] === '1';
const seconds = Number(process.env['PGQUORUM_TEST_MIXED_SECONDS'] ?? (long ? 600 : 85));
const seed = Number(process.env['PGQUORUM_TEST_SEED'] ?? Math.floor(Math.random() * 2 ** 31));
const skipped = (process.env['PGQUORUM_TEST_SKIP'] ?? '').split(/[\s,]+/);
const chosen = process.env['PGQUORUM_TEST_MIXED_LOG'];
const possible = (['wal', 'kafka'] as const).filter((log) => log === 'wal' || !skipped.includes('kafka'));
const logs = long && chosen === undefined ? possible : [possible.find((log) => log === chosen) ?? 'wal'];

/** So many writes a second of all clients, that a busy machine still applies them meanwhile. */
const pauseMs = 60;
const { rows, attached, alone, counted } = mixedCollections;

describe.each(logs)('through %s', (log) => {
  test(
    `${seconds} seconds of writes, kills, cuts, lost slots and a node that comes and goes leave all masters the same and no write unaccounted for`,
    async () => {
      process.stderr.write(`mixed ${log}: PGQUORUM_TEST_SEED=${seed}\n`);
      await withMasters({ count: 4, major: [18, 16, 18, 16] }, async (masters) => {
        if (log === 'wal') return await run(masters, null);
        await using broker = await startKafka();
        await run(masters, broker);
      });
    },
    (seconds + 2400) * 1000,
  );
});

async function run(masters: Masters, broker: KafkaBroker | null): Promise<void> {
  await using scene = new Scene(masters, broker);
  await scene.start();
  const job = await prepare(scene);
  const { ledgers, tallies } = await writeUnderFaults(scene);
  scene.heal();
  await settled(scene, ledgers, tallies);
  await attaching(scene, job);
  expect(await scene.stop()).toEqual([0, 0, 0, 0, 0, 0]);
}

/** It gives up when nothing of the others comes for two minutes, which a master that is down or a node that joins may take: asked for again it goes on. */
async function attaching(scene: Scene, first: string): Promise<void> {
  let job = first;
  await eventually(
    'the rows of the table that was attached are everywhere, and verified',
    async () => {
      const found = (await (await fetch(`${scene.gatewayUrl(0)}/v1/jobs/${job}`)).json()) as {
        state: string;
        error?: { code: string };
      };
      if (found.state === 'failed' && found.error?.code === 'attach_incomplete')
        job = (await attach(scene))?.job.id ?? job;
      else if (found.state === 'failed' || found.state === 'cancelled')
        throw new Error(JSON.stringify(found));
      return found.state === 'done';
    },
    { withinMs: 600_000, everyMs: 500 },
  );
}

/** Null when no gateway listens yet, or a master is away. */
async function attach(scene: Scene): Promise<{ job: { id: string } } | null> {
  const response = await fetch(`${scene.gatewayUrl(0)}/v1/collections/${attached}/attach`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ table: `public.${attached}` }),
  }).catch((error: unknown) => {
    if (isLost(error)) return null;
    throw error;
  });
  if (response === null || response.status >= 500) return null;
  if (response.status !== 202) throw new Error(await response.text());
  return (await response.json()) as { job: { id: string } };
}

/** The rows that are counted in, and the job that takes in the rows of the application's table; it has all the time of the test. */
async function prepare(scene: Scene): Promise<string> {
  const answer = await eventually('the attaching begins', () => attach(scene), {
    withinMs: 120_000,
    everyMs: 200,
  });
  for (const key of tallyKeys)
    await query(
      scene.masters[0]!,
      `insert into public.${counted} (id, embedding) values ($1, array_fill(1, array[${dimension}])::vector)`,
      [key],
    );
  for (const master of scene.members)
    await eventually(
      'the rows that are counted in are everywhere',
      async () => (await query(master, `select from public.${counted}`)).length === tallyKeys.length,
      { withinMs: 120_000, everyMs: 100 },
    );
  return answer.job.id;
}

function randomOf(from: number): () => number {
  const prng = new Prng(from);
  return () => prng.next() / 2 ** 32;
}

async function writeUnderFaults(
  scene: Scene,
): Promise<{ ledgers: ReadonlyMap<string, Ledger>; tallies: Tallies }> {
  const random = randomOf(seed);
  const ledgers = new Map([rows, attached, alone].map((name) => [name, new Ledger()]));
  const tallies = new Tallies();
  const gateway = (): string => scene.gatewayUrl(random() < 0.5 ? 0 : 1);
  const numbers = new Map(await scene.numbers());
  const crowd = Crowd.gather(scene, { random, ledgers, gateway, numbers });
  const founders = scene.masters.slice(0, 3);
  const clients = new Clients({ random, pauseMs });
  const { signal } = clients;
  const say = (line: string): boolean => process.stderr.write(`  ${line}\n`);
  const faults = injectFaults({
    scene,
    // Of their own, so that a seed has the same faults in the same order, whatever the clients draw meanwhile.
    random: randomOf(seed + 1),
    signal,
    say,
    once: { afterMs: (seconds * 1000) / 6, work: () => scene.join() },
  });
  const onFourth = new Gate();
  clients.each(4, () => crowd.one());
  founders.forEach((_master, at) => clients.each(1, () => crowd.alone(at)));
  clients.each(1, () => tallies.patch(gateway, random));
  clients.each(1, () => tallies.add(founders[Math.floor(random() * founders.length)]!, random));
  clients.each(1, () => onFourth.pass(() => (random() < 0.5 ? crowd.alone(3) : crowd.onJoined())));
  const comings = comeAndGo({
    scene,
    random: randomOf(seed + 2),
    gateway,
    say,
    numbers,
    signal,
    startWriters: () => onFourth.open(),
    stopWriters: () => onFourth.close(),
  });
  let counts: Record<string, number> = {};
  try {
    await clients.during(Promise.all([sleep(seconds * 1000, undefined, { signal }), comings]));
  } finally {
    counts = await faults;
    await crowd.close();
  }
  process.stderr.write(
    `  ${JSON.stringify({ writes: crowd.counts(), tallies: tallies.counts, faults: counts })}\n`,
  );
  expect(crowd.counts().acknowledged).toBeGreaterThan(seconds);
  return { ledgers, tallies };
}
