/**
 * A seeded simulation of the production merge, plan and local write: nodes that write, delete, retry requests elsewhere, restore and resolve, with
 * links that delay, lose, repeat, cut and re-read, and with wrong clocks. model.ts is the naive model, checks.ts says what must hold.
 *
 *   PGQUORUM_TEST_SEED=<seed>   the first history, as a failure prints it, or `random`; otherwise always the same ones, in the long form new ones each time
 *   PGQUORUM_TEST_RUNS=<number> how many histories
 *
 * What breaks it. Faults around the production code are in message.ts and are tried in the last tests here, each time. Faults in it were tried by hand; each of
 * these was found within 8,000 histories and shrunk to 2-10 steps:
 * - version.ts: versions with equal hlcs tie, so that the first to arrive stays;
 * - clock.ts: `covers` is strict; `join` keeps the entries of the left side;
 * - hlc.ts: a write takes the wall clock, though what it replaces is ahead of it;
 * - local-write.ts: the clock of a write grows from the winner's clock, not from all that was seen;
 * - merge.ts: a version is gone only when a version that is held covers it (a repeat comes back to life); repeats of a request stay open; the lesser
 *   write of a request is kept;
 * - plan.ts: the fast path ignores losers, here or in what comes in, or does not join seen; no record is made; none is superseded;
 * - conflicts/record.ts: a record goes back to open; of two last states the later to arrive stays.
 */
import { describe, expect, test } from '@jest/globals';
import { randomInt } from 'node:crypto';
import { Violation } from './checks.ts';
import { makeHistory, type History } from './history.ts';
import type { Fault } from './message.ts';
import { shrink } from './shrink.ts';
import { World } from './world.ts';

function numberOf(name: string, fallback: number): number {
  const text = process.env[name];
  if (text === undefined || text === '') return fallback;
  const value = Number(text);
  if (!Number.isSafeInteger(value) || value < 0) throw new Error(`${name} is not a whole number`);
  return value;
}

const runsDefault = 6_000;
const isNew = process.env['PGQUORUM_TEST_LONG'] === '1' || process.env['PGQUORUM_TEST_SEED'] === 'random';
const sameSeed = 4_711_000;
const firstSeed = isNew ? randomInt(2 ** 31) : numberOf('PGQUORUM_TEST_SEED', sameSeed);
const runs = numberOf('PGQUORUM_TEST_RUNS', runsDefault);

interface Failure {
  readonly error: Error;
  readonly trace: readonly string[];
}

function play(history: History, faults: ReadonlySet<Fault> = new Set()): Failure | null {
  const world = new World(history, faults);
  try {
    world.run(history.steps);
    return null;
  } catch (error) {
    return { error: error as Error, trace: world.trace };
  }
}

/** What a failure says: the seed, and the shortest history that fails in the same way. */
function report(history: History): string {
  const short = shrink(history, (shorter) => play(shorter) !== null);
  const { error, trace } = play(short)!;
  const how = error instanceof Violation ? error.message : (error.stack ?? error.message);
  return [
    `PGQUORUM_TEST_SEED=${history.seed} PGQUORUM_TEST_RUNS=1`,
    `${short.nodes} nodes, ${short.steps.length} of ${history.steps.length} steps:`,
    ...trace.map((line) => `  ${line}`),
    how,
  ].join('\n');
}

test('whatever order, repetition, loss and clocks, all nodes end with the same rows, versions and open conflicts, and every write is accounted for', () => {
  process.stdout.write(`simulation: ${runs} histories from PGQUORUM_TEST_SEED=${firstSeed}\n`);
  for (let run = 0; run < runs; run += 1) {
    const history = makeHistory(firstSeed + run);
    if (play(history) !== null) throw new Error(report(history));
  }
}, 600_000);

/**
 * Known, and not mended: a row with CRDT fields is deleted everywhere and purged on all masters but one, where a call had restored one of its versions just before; and one of those that had purged
 * it inserts it anew before it hears of that. The insert begins a life of its own and has forgotten the earlier ones, so what was undone with the deletion counts again. All
 * masters agree on it. An insert of an absent key would have to say that it has seen all that was purged; when it does this test has to be turned round.
 */
test('an insert does not yet take the place of lives that were purged and are restored elsewhere', () => {
  expect(play(makeHistory(111_101_450))?.error.message).toMatch(
    /the fields are .*, of all operations they should be/,
  );
});

test('a seed gives one history', () => {
  expect(makeHistory(42)).toEqual(makeHistory(42));
  expect(makeHistory(42)).not.toEqual(makeHistory(43));
});

test('histories hold what is hard: conflicts, repeated requests, equal times, calls, whole states with losers, purges', () => {
  const counts = Array.from({ length: 500 }, (_, at) => {
    const history = makeHistory(firstSeed + at);
    const world = new World(history);
    world.run(history.steps);
    return world.counts;
  });
  const happened = Object.keys(counts[0]!).map((what) => [
    what,
    counts.filter((one) => one[what as keyof World['counts']] > 0).length >= 3,
  ]);
  expect(happened).toEqual(happened.map(([what]) => [what, true]));
}, 60_000);

describe('the checks notice', () => {
  const faults: readonly Fault[] = [
    'whole-states-without-losers',
    'losers-stay-open',
    'advances-unpublished',
    'requests-forgotten',
    'request-lost-by-reread',
    'requests-lost-by-copy',
    'message-lost',
    'tombstones-deleted-before-all-agree',
    'horizon-ignored',
  ];
  test.each(faults)(
    '%s',
    (fault) => {
      const found = Array.from({ length: 3000 }, (_, at) => firstSeed + at).find(
        (seed) => play(makeHistory(seed), new Set([fault])) !== null,
      );
      expect(found).toBeDefined();
      const short = shrink(makeHistory(found!), (history) => play(history, new Set([fault])) !== null);
      expect(short.steps.length).toBeLessThan(20);
    },
    120_000,
  );
});
