/**
 * How many operations on CRDT fields a second are carried out and merged into another node's state in one process, without Postgres. A merge is what apply does
 * for each change of such a key; the state travels whole, so what it holds is what it costs.
 *
 * Build, then: node dist/bench/crdt-merge.bench.js
 */
import { applyOperations } from '#core/versioning/crdt/apply-operations.ts';
import type { CrdtFields } from '#core/versioning/crdt/field.ts';
import type { Operations } from '#core/versioning/crdt/operation.ts';
import { mergeCrdt, type CrdtState, type SeenCrdt } from '#core/versioning/crdt/state.ts';
import type { HlcValue, NodeNumber } from '#core/versioning/version.ts';

const fields: CrdtFields = { likes: 'g-counter', stock: 'pn-counter', title: 'lww-register', tags: 'or-set' };
const rounds = 15;
const operationsPerRound = 2_000;

const requestId = (at: number): string => `0190b2a4-0000-7000-8000-${String(at).padStart(12, '0')}`;

interface Shape {
  readonly operations: (at: number) => Operations;
  readonly request?: (at: number) => string;
  /** What both nodes hold before. */
  readonly state: CrdtState;
}

const three = (counter: number) => ({ 1: counter, 2: counter, 3: counter });
const life = {
  '1.1': { ops: three(100), f: { likes: { g: three(50) }, stock: { p: { 1: [5, 2], 2: [1, 1] } } } },
} as const;
const withElements = (count: number): CrdtState => ({
  '1.1': {
    ...life['1.1'],
    f: {
      ...life['1.1'].f,
      tags: {
        s: Object.fromEntries(
          Array.from({ length: count }, (_, at) => [`"tag ${at}"`, { [1 + (at % 3)]: at + 2 }]),
        ),
      },
    },
  },
});
const withRequests = (count: number): CrdtState => ({
  '1.1': {
    ...life['1.1'],
    k: Object.fromEntries(
      Array.from({ length: count }, (_, at) => [requestId(at), { at: { 2: at + 2 }, d: { likes: 1 } }]),
    ),
  },
});

const increment = { likes: { increment: 1 } };
const shapes: Readonly<Record<string, Shape>> = {
  increment: { state: life, operations: () => increment },
  'four fields at once': {
    state: withElements(10),
    operations: (at) => ({
      ...increment,
      stock: { decrement: 1 },
      title: { set: `title ${at}` },
      tags: { add: `tag ${at % 10}` },
    }),
  },
  'add, 100 elements': {
    state: withElements(100),
    operations: (at) => ({ tags: { add: `tag ${at % 100}` } }),
  },
  'increment, 100 requests to fold': {
    state: withRequests(100),
    operations: () => increment,
    request: (at) => requestId(1_000 + at),
  },
  'increment, 1,000 requests to fold': {
    state: withRequests(1_000),
    operations: () => increment,
    request: (at) => requestId(10_000 + at),
  },
};

/** Keeps the optimiser from dropping the work. */
let merged = 0;

/** One node operates, another one merges its state each time: twenty operations from the same beginning, as what is measured is a state of this size. */
function round({ state, operations, request }: Shape, count: number): number {
  const seen = three(20_000);
  let nanoseconds = 0n;
  for (let first = 0; first < count; first += 20) {
    let here: SeenCrdt = { crdt: state, seen };
    let there: SeenCrdt = { crdt: structuredClone(state), seen };
    const start = process.hrtime.bigint();
    for (let at = first; at < first + 20; at += 1) {
      const counter = 20_001 + at;
      const applied = applyOperations({
        state: here.crdt,
        fields,
        operations: operations(at),
        dot: { origin: 1 as NodeNumber, counter },
        hlc: BigInt(counter) as HlcValue,
        request: request?.(at) ?? null,
      });
      if (!applied.ok) throw new Error(applied.problem.detail);
      here = { crdt: applied.state, seen: { ...seen, 1: counter } };
      there = { crdt: mergeCrdt(there, here), seen: here.seen };
    }
    nanoseconds += process.hrtime.bigint() - start;
    merged += there.crdt === null ? 0 : 1;
  }
  return Number(nanoseconds) / 1e9;
}

const median = (values: readonly number[]): number =>
  [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)]!;

let baseline: number | undefined;
process.stdout.write(
  `${'operation and merge'.padEnd(36)}${'a second'.padStart(12)}${'us each'.padStart(9)}${'ratio'.padStart(8)}\n`,
);
for (const [name, shape] of Object.entries(shapes)) {
  const count = shape.request === undefined ? operationsPerRound : operationsPerRound / 10;
  const rate = count / median(Array.from({ length: rounds }, () => round(shape, count)));
  baseline ??= rate;
  process.stdout.write(
    `${name.padEnd(36)}${Math.round(rate).toLocaleString('en').padStart(12)}${(1e6 / rate).toFixed(2).padStart(9)}${(rate / baseline).toFixed(2).padStart(8)}\n`,
  );
}
if (merged === 0) throw new Error('nothing was merged');
