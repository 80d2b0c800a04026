/**
 * All at once, for a while: on masters of both versions clients write by SQL and through two gateways (inserts, updates, deletes, re-inserts, changes of
 * keys, truncates, counters and sets, in an attached table too), while replicators, gateways and masters are killed, slots dropped, publications made anew,
 * lines cut, with Kafka the broker restarted, and half-way a fourth master joins. Then it is quiet, and everything is compared on all masters:
 * - rows, versions, CRDT states and open conflicts are the same, nothing is parked, and there are no dead letters;
 * - every acknowledged write is current, or was seen by what is, or is in a conflict record (convergence/ledger.ts), and counters add up;
 * - keys that one client alone writes have no conflict;
 * - each master has the slots of its readers and no other one, all gateways are ready, and all processes end in order.
 *
 * `npm test` takes two minutes for it, through wal; the long form ten minutes for each log.
 *
 *   PGQUORUM_TEST_SEED=<seed>           what is chosen; when it hits is up to the machine, so the same seed need not fail again
 *   PGQUORUM_TEST_MIXED_SECONDS=<n>     how long is written
 *   PGQUORUM_TEST_MIXED_LOG=wal|kafka   through this log
 */
import { describe, expect, test } from '@jest/globals';
import { setTimeout as sleep } from 'node:timers/promises';
import { startKafka, type KafkaBroker } from '#core/testing/broker.kafka.ts';
import { withMasters, type Masters } from '#core/testing/masters.pg.ts';
import { eventually } from '#core/testing/wait.process.ts';
import { Prng } from '../simulation/prng.ts';
import { Ledger } from './convergence/ledger.ts';
import { isLost, RandomWriter } from './convergence/writer.ts';
import { injectFaults } from './mixed/faults.ts';
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
    `${seconds} seconds of writes, kills, cuts, lost slots and a node that joins leave all masters the same and no write unaccounted for`,
    async () => {
      process.stderr.write(`mixed ${log}: PGQUORUM_TEST_SEED=${seed}\n`);
      await withMasters({ count: 4, major: [18, 16, 18, 16] }, async (masters) => {
        if (log === 'wal') return await run(masters, null);
        await using broker = await startKafka();
        await run(masters, broker);
      });
    },
    (seconds + 1200) * 1000,
  );
});

async function run(masters: Masters, broker: KafkaBroker | null): Promise<void> {
  await using scene = new Scene(masters, broker);
  await scene.start();
  const job = await prepare(scene);
  const { ledgers, tallies } = await writeUnderFaults(scene);
  scene.heal();
  await eventually('the fourth master has joined', () => scene.joined(), { withinMs: 300_000, everyMs: 200 });
  await settled(scene, ledgers, tallies);
  await eventually(
    'the rows of the table that was attached are everywhere, and verified',
    async () => {
      const found = await (await fetch(`${scene.gatewayUrl(0)}/v1/jobs/${job}`)).json();
      const { state } = found as { state: string };
      if (state === 'failed' || state === 'cancelled') throw new Error(JSON.stringify(found));
      return state === 'done';
    },
    { withinMs: 300_000, everyMs: 500 },
  );
  expect(await scene.stop()).toEqual([0, 0, 0, 0, 0, 0]);
}

/** The rows that are counted in, and the job that takes in the rows of the application's table; it has all the time of the test. */
async function prepare(scene: Scene): Promise<string> {
  const answer = await eventually(
    'the attaching begins',
    async () => {
      const response = await fetch(`${scene.gatewayUrl(0)}/v1/collections/${attached}/attach`, {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify({ table: `public.${attached}` }),
      }).catch((error: unknown) => {
        if (isLost(error)) return null; // it does not listen yet
        throw error;
      });
      if (response === null || response.status >= 500) return null;
      if (response.status !== 202) throw new Error(await response.text());
      return (await response.json()) as { job: { id: string } };
    },
    { withinMs: 120_000, everyMs: 200 },
  );
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
  const crowd = await Crowd.gather(scene, { random, ledgers, gateway });
  const founders = scene.masters.slice(0, 3);
  let hasJoined = false;
  const ended = new AbortController();
  const timer = setTimeout(() => ended.abort(), seconds * 1000);
  let failure: unknown;
  const worker = async (work: () => Promise<unknown>): Promise<void> => {
    try {
      for (; !ended.signal.aborted; await sleep(pauseMs * (0.5 + random()))) await work();
    } catch (error) {
      failure ??= error;
      ended.abort();
    }
  };
  const faults = injectFaults({
    scene,
    // Of their own, so that a seed has the same faults in the same order, whatever the clients draw meanwhile.
    random: randomOf(seed + 1),
    signal: ended.signal,
    say: (line) => process.stderr.write(`  ${line}\n`),
    halfway: { afterMs: (seconds * 1000) / 2, work: () => scene.join() },
  });
  let counts: Record<string, number>;
  try {
    await Promise.all([
      ...Array.from({ length: 4 }, () => worker(() => crowd.one())),
      ...founders.map((_master, at) => worker(() => crowd.alone(at))),
      worker(() => tallies.patch(gateway, random)),
      worker(() => tallies.add(founders[Math.floor(random() * founders.length)]!, random)),
      worker(async () => {
        hasJoined ||= await scene.joined();
        if (hasJoined) await (random() < 0.5 ? crowd.alone(3) : crowd.onJoined());
      }),
    ]);
  } finally {
    clearTimeout(timer);
    ended.abort();
    counts = await faults;
    await crowd.close();
  }
  if (failure !== undefined) throw failure;
  process.stderr.write(
    `  ${JSON.stringify({ writes: crowd.counts(), tallies: tallies.counts, faults: counts })}\n`,
  );
  expect(crowd.counts().acknowledged).toBeGreaterThan(seconds);
  return { ledgers, tallies };
}

interface CrowdOptions {
  readonly random: () => number;
  readonly ledgers: ReadonlyMap<string, Ledger>;
  readonly gateway: () => string;
}

/** Who writes rows: some on all masters, and one for each master that nobody else meets. */
class Crowd {
  readonly #random: () => number;
  readonly #together: readonly RandomWriter[];
  readonly #joined: RandomWriter;
  readonly #apart: readonly RandomWriter[];

  private constructor(
    random: () => number,
    of: {
      readonly together: readonly RandomWriter[];
      readonly joined: RandomWriter;
      readonly apart: readonly RandomWriter[];
    },
  ) {
    this.#random = random;
    this.#together = of.together;
    this.#joined = of.joined;
    this.#apart = of.apart;
  }

  get #all(): readonly RandomWriter[] {
    return [...this.#together, this.#joined, ...this.#apart];
  }

  static async gather(scene: Scene, { random, ledgers, gateway }: CrowdOptions): Promise<Crowd> {
    const numbers = await scene.numbers();
    const shared = { random, dimension, numbers };
    const together = [rows, attached].map(
      (collection) =>
        new RandomWriter({
          ...shared,
          masters: scene.members,
          ledger: ledgers.get(collection)!,
          collection,
          keys: 150,
          gateway,
        }),
    );
    const joined = new RandomWriter({
      ...shared,
      masters: [scene.masters[3]!],
      ledger: ledgers.get(rows)!,
      collection: rows,
      keys: 150,
      gateway: null,
    });
    const apart = scene.masters.map(
      (master) =>
        new RandomWriter({
          ...shared,
          masters: [master],
          ledger: ledgers.get(alone)!,
          collection: alone,
          keys: 20,
          gateway: null,
          prefix: `${master.name}-`,
          truncates: false,
        }),
    );
    return new Crowd(random, { together, joined, apart });
  }

  async one(): Promise<void> {
    await this.#together[this.#random() < 0.7 ? 0 : 1]!.one();
  }

  /** On the master that has joined. */
  async onJoined(): Promise<void> {
    await this.#joined.one();
  }

  async alone(at: number): Promise<void> {
    await this.#apart[at]!.one();
  }

  counts(): { acknowledged: number; refused: number; unreachable: number } {
    const sum = { acknowledged: 0, refused: 0, unreachable: 0 };
    for (const { counts } of this.#all)
      for (const name of ['acknowledged', 'refused', 'unreachable'] as const) sum[name] += counts[name];
    return sum;
  }

  async close(): Promise<void> {
    await Promise.all(this.#all.map((writer) => writer.close()));
  }
}
