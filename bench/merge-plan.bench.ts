/**
 * How many keys a second apply's planning does in one process, for the shapes of change that apply meets, without Postgres. Goal: 300,000 a second for
 * last-writer-wins without conflicts, so that planning stays below 1/10 of what a row costs apply.
 *
 * Build, then: node dist/bench/merge-plan.bench.js
 */
import { planKey, type RowSource } from '#core/apply/plan.ts';
import { hlcFromMs } from '#core/versioning/hlc.ts';
import { writeLocally } from '#core/versioning/local-write.ts';
import { absentState, deltaState, noRequests, type KeyState } from '#core/versioning/merge.ts';
import type { NodeNumber } from '#core/versioning/version.ts';

const keys = 20_000;
const rounds = 15;

interface Case {
  readonly local: KeyState<RowSource>;
  readonly incoming: readonly KeyState<RowSource>[];
}

const write = (
  state: KeyState<RowSource>,
  options: { readonly node: number; readonly ms: number; readonly drawn: number; readonly request?: string },
): KeyState<RowSource> =>
  writeLocally<RowSource>(state, {
    node: options.node as NodeNumber,
    now: hlcFromMs(options.ms),
    drawn: options.drawn,
    deleted: false,
    row: { kind: 'incoming', at: 0 },
    request: options.request ?? null,
    purgeHorizon: null,
  }).state;
const delta = (state: KeyState<RowSource>): KeyState<RowSource> => deltaState(state.winner!);

const first = (at: number) => write(absentState, { node: 1, ms: 1000 + at, drawn: at + 1 });
/** Written by three nodes in turn, as keys of a busy collection are. */
const busy = (at: number) =>
  write(write(first(at), { node: 2, ms: 2000 + at, drawn: at + 1 }), {
    node: 3,
    ms: 3000 + at,
    drawn: at + 1,
  });

/** A key that each of 64 nodes has written. */
const crowded = (at: number): KeyState<RowSource> => {
  let state = first(at);
  for (let node = 2; node <= 64; node += 1) state = write(state, { node, ms: 2000 + at, drawn: at + 1 });
  return state;
};

const shapes: Readonly<Record<string, (at: number) => Case>> = {
  'first write of a key': (at) => ({ local: absentState, incoming: [delta(first(at))] }),
  'clean overwrite': (at) => ({
    local: busy(at),
    incoming: [delta(write(busy(at), { node: 1, ms: 4000 + at, drawn: keys + at }))],
  }),
  'clean overwrite, with requests': (at) => {
    const local = write(busy(at), { node: 2, ms: 3500, drawn: keys + at, request: `a${at}` });
    return {
      local,
      incoming: [delta(write(local, { node: 1, ms: 4000 + at, drawn: keys + at, request: `b${at}` }))],
    };
  },
  'clean overwrite, clocks of 64 nodes': (at) => {
    const local = crowded(at);
    return { local, incoming: [delta(write(local, { node: 1, ms: 4000 + at, drawn: keys + at }))] };
  },
  repetition: (at) => ({ local: busy(at), incoming: [delta(first(at))] }),
  'four writes of a key in a batch': (at) => {
    const writes = [busy(at)];
    for (let more = 0; more < 4; more += 1)
      writes.push(write(writes.at(-1)!, { node: 1, ms: 4000 + more, drawn: keys + 4 * at + more }));
    return { local: writes[0]!, incoming: writes.slice(1).map(delta) };
  },
  'new conflict': (at) => ({
    local: write(busy(at), { node: 2, ms: 3500, drawn: keys + at }),
    incoming: [delta(write(busy(at), { node: 1, ms: 4000 + at, drawn: keys + at }))],
  }),
};

function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.floor(sorted.length / 2)]!;
}

/** Keeps the optimiser from dropping the work. */
let written = 0;
function keysPerSecond(cases: readonly Case[]): number {
  const seconds = Array.from({ length: rounds }, () => {
    const start = process.hrtime.bigint();
    for (const { local, incoming } of cases)
      if (planKey(local, incoming, noRequests).winner !== null) written += 1;
    return Number(process.hrtime.bigint() - start) / 1e9;
  });
  return cases.length / median(seconds);
}

let baseline: number | undefined;
process.stdout.write(
  `${'change'.padEnd(38)}${'keys/s'.padStart(12)}${'us/key'.padStart(9)}${'ratio'.padStart(8)}\n`,
);
for (const [name, shape] of Object.entries(shapes)) {
  const rate = keysPerSecond(Array.from({ length: keys }, (_, at) => shape(at)));
  baseline ??= rate;
  process.stdout.write(
    `${name.padEnd(38)}${Math.round(rate).toLocaleString('en').padStart(12)}${(1e6 / rate).toFixed(2).padStart(9)}${(rate / baseline).toFixed(2).padStart(8)}\n`,
  );
}
if (written === 0) throw new Error('nothing was planned');
