/** The plan against the plain fold of the merge, on states that a system can reach. What breaks it: `planFast` deciding anything the merge would decide otherwise. */
import { expect, test } from '@jest/globals';
import fc from 'fast-check';
import type { Operations } from '../versioning/crdt/operation.ts';
import { includes } from '../versioning/clock.ts';
import { play, type History, type HistoryStep, type Row } from '../versioning/key-history.testing.ts';
import {
  absentState,
  deltaState,
  isOperation,
  mergeStates,
  versionsOf,
  type KeyState,
  type Stamped,
} from '../versioning/merge.ts';
import { dotText, sameDot } from '../versioning/version.ts';
import { isNothing, planKey, type KeyPlan, type RowSource } from './plan.ts';

const nodes = 4;
const node = fc.nat({ max: nodes - 1 });
const pick = fc.nat({ max: 1_000_000 });
const operationStep: fc.Arbitrary<HistoryStep> = fc.record({
  kind: fc.constant('operate' as const),
  node,
  nowMs: fc.nat({ max: 6 }),
  operations: fc.constantFrom<Operations>(
    { count: { increment: 1 } },
    { tags: { add: 'x' } },
    { tags: { remove: 'x' } },
  ),
});
const stepsOf = (
  request: fc.Arbitrary<number | null>,
  ...more: fc.Arbitrary<HistoryStep>[]
): fc.Arbitrary<HistoryStep[]> =>
  fc.array(
    fc.oneof(
      {
        weight: 3,
        arbitrary: fc.record({
          kind: fc.constant('write' as const),
          node,
          nowMs: fc.nat({ max: 6 }),
          deleted: fc.boolean(),
          request,
        }),
      },
      { weight: 5, arbitrary: fc.record({ kind: fc.constant('deliver' as const), from: node, to: node }) },
      { weight: 1, arbitrary: fc.record({ kind: fc.constant('whole' as const), from: node, to: node }) },
      ...more.map((arbitrary) => ({ weight: 3, arbitrary })),
    ),
    { minLength: 4, maxLength: 60 },
  );
const plainSteps = stepsOf(fc.constant(null));
const requestSteps = stepsOf(fc.option(fc.nat({ max: 2 }), { nil: null }));
const operationSteps = stepsOf(fc.constant(null), operationStep);
const runs = { numRuns: 1000 };

/** A state of the history and some that come in, single writes more often than whole states. */
const caseOf = (steps: fc.Arbitrary<HistoryStep[]>) =>
  fc
    .tuple(steps, pick, fc.array(fc.tuple(pick, pick), { minLength: 1, maxLength: 5 }))
    .map(([list, at, incoming]) => {
      const history = play(nodes, list);
      const whole = (index: number): KeyState<Row> => history.states[index % history.states.length]!;
      const single = (index: number): KeyState<Row> =>
        history.published[index % history.published.length] ?? absentState;
      return {
        history,
        local: whole(at),
        incoming: incoming.map(([kind, index]) => (kind % 4 === 0 ? whole(index) : single(index))),
      };
    });

const fromTables = (state: KeyState<Row>): KeyState<RowSource> => ({
  winner: state.winner && { version: state.winner.version, row: { kind: 'local' } },
  seen: state.seen,
  losers: state.losers.map(({ version }) => ({ version, row: { kind: 'record', dot: version.dot } })),
});
const fromLog = (state: KeyState<Row>, at: number): KeyState<RowSource> => {
  const stamp = ({ version }: Stamped<Row>): Stamped<RowSource> => ({
    version,
    row: { kind: 'incoming', at },
  });
  return { winner: state.winner && stamp(state.winner), seen: state.seen, losers: state.losers.map(stamp) };
};
const plan = (local: KeyState<Row>, incoming: readonly KeyState<Row>[], history: History) =>
  planKey(fromTables(local), incoming.map(fromLog), history.requests);

/** Carries a plan out, taking each row from where the plan says. */
function carryOut(local: KeyState<Row>, incoming: readonly KeyState<Row>[], planned: KeyPlan): KeyState<Row> {
  const fetch = ({ version, row }: Stamped<RowSource>): Stamped<Row> => {
    const held =
      row.kind === 'incoming'
        ? versionsOf(incoming[row.at]!)
        : row.kind === 'local'
          ? [local.winner!]
          : local.losers;
    // An operation that was undone goes with the row that it was done to.
    const found = held.find((one) => isOperation(version) || sameDot(one.version.dot, version.dot));
    if (found === undefined) throw new Error(`no row of ${dotText(version.dot)} where the plan says it is`);
    return { version, row: found.row };
  };
  const stays =
    local.winner === null || planned.crdt === undefined
      ? local.winner
      : { ...local.winner, version: { ...local.winner.version, crdt: planned.crdt } };
  const gone = [...planned.superseded, ...planned.withdrawn];
  const open = [...local.losers, ...planned.newLosers.map((one) => fetch(one.loser))];
  return {
    winner: planned.winner === null ? stays : fetch(planned.winner),
    seen: planned.seen ?? local.seen,
    losers: open.filter((one) => !gone.some((dot) => sameDot(dot, one.version.dot))),
  };
}

const shown = (state: KeyState<Row>) => ({
  winner: state.winner && [dotText(state.winner.version.dot), state.winner.row, state.winner.version.crdt],
  seen: state.seen,
  losers: Object.fromEntries(
    state.losers.map((one) => [
      dotText(one.version.dot),
      isOperation(one.version) ? 'an operation' : one.row,
    ]),
  ),
});
const recordsOf = (planned: KeyPlan): string[] =>
  planned.newLosers.map((one) => dotText(one.loser.version.dot));

test.each([
  ['plain', plainSteps],
  ['with requests', requestSteps],
  ['with operations', operationSteps],
])('a plan carried out is the fold of the merge (%s)', (_name, steps) => {
  fc.assert(
    fc.property(caseOf(steps), ({ history, local, incoming }) => {
      const folded = incoming.reduce((state, next) => mergeStates(state, next, history.requests), local);
      expect(shown(carryOut(local, incoming, plan(local, incoming, history)))).toEqual(shown(folded));
    }),
    runs,
  );
});

test('a batch leaves the same state and the same records as its changes one by one', () => {
  fc.assert(
    fc.property(caseOf(plainSteps), ({ history, local, incoming }) => {
      const together = plan(local, incoming, history);
      const records = new Set<string>();
      let state = local;
      for (const next of incoming) {
        const planned = plan(state, [next], history);
        for (const dot of recordsOf(planned)) records.add(dot);
        state = carryOut(state, [next], planned);
      }
      expect(shown(carryOut(local, incoming, together))).toEqual(shown(state));
      expect(new Set(recordsOf(together))).toEqual(records);
    }),
    runs,
  );
});

test('a plan names each new record once, none that is there, and closes only what is open or new', () => {
  fc.assert(
    fc.property(caseOf(requestSteps), ({ history, local, incoming }) => {
      const planned = plan(local, incoming, history);
      const before = local.losers.map((one) => dotText(one.version.dot));
      const found = recordsOf(planned);
      const closed = planned.superseded.map(dotText);
      expect(new Set(found).size).toBe(found.length);
      expect(new Set(closed).size).toBe(closed.length);
      expect(found.filter((dot) => before.includes(dot))).toEqual([]);
      expect(closed.filter((dot) => !before.includes(dot) && !found.includes(dot))).toEqual([]);
      // A loser never comes to win: the winner only grows.
      if (planned.winner !== null) expect(planned.winner.row.kind).toBe('incoming');
    }),
    runs,
  );
});

test('what is known already needs nothing to be written', () => {
  fc.assert(
    fc.property(caseOf(plainSteps), ({ history, local }) => {
      expect(isNothing(plan(local, [local], history))).toBe(true);
      const repeats = history.writes
        .filter((write) => includes(local.seen, write.version.clock))
        .map((write) => deltaState(write));
      expect(isNothing(plan(local, repeats, history))).toBe(true);
    }),
    runs,
  );
});

test('losers that come and go within a batch still leave a record', () => {
  const history = play(2, [
    { kind: 'write', node: 0, nowMs: 1, deleted: false, request: null },
    { kind: 'write', node: 1, nowMs: 2, deleted: false, request: null },
    { kind: 'deliver', from: 0, to: 1 },
    { kind: 'write', node: 1, nowMs: 3, deleted: true, request: null },
  ]);
  const planned = plan(
    absentState,
    history.writes.map((write) => deltaState(write)),
    history,
  );
  expect(recordsOf(planned)).toEqual(['1.1']);
  expect(planned.superseded.map(dotText)).toEqual(['1.1']);
  expect(planned.winner).toMatchObject({
    version: { dot: { origin: 2, counter: 3 }, deleted: true },
    row: { kind: 'incoming', at: 2 },
  });
});

test('a write of a request that is overwritten within the batch still tells that a later one is its repeat', () => {
  const history = play(3, [
    { kind: 'write', node: 1, nowMs: 5, deleted: false, request: 1 },
    { kind: 'deliver', from: 1, to: 2 },
    { kind: 'write', node: 2, nowMs: 6, deleted: false, request: null },
    { kind: 'write', node: 0, nowMs: 1, deleted: false, request: 1 },
  ]);
  const deltas = history.writes.map((write) => deltaState(write));
  expect(recordsOf(planKey(absentState, deltas.map(fromLog), new Map()))).toEqual([]);
});
