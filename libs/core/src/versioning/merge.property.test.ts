/**
 * The laws of the merge. They are claimed for reachable states: those that nodes get into by writing (local-write.ts) and by merging what
 * others wrote. With requests in play they are claimed when all facts about requests are known (merge.ts says why), so the laws compare
 * states under the full set. For states that only keep the invariants of merge.ts, however they came about, the last tests show that the invariants stay.
 */
import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { covers, includes, join, type Clock } from './clock.ts';
import type { Operations } from './crdt/operation.ts';
import { play, requestsOf, type HistoryStep, type Row } from './key-history.testing.ts';
import {
  absentState,
  deltaState,
  isOperation,
  mergeStates,
  noRequests,
  versionsOf,
  type KeyState,
  type KnownRequests,
  type Stamped,
} from './merge.ts';
import {
  compareVersions,
  dotText,
  sameDot,
  type Epoch,
  type HlcValue,
  type NodeNumber,
  type Version,
} from './version.ts';

const nodes = 4;
const node = fc.nat({ max: nodes - 1 });
const stepOf = (requests: fc.Arbitrary<number | null>): fc.Arbitrary<HistoryStep> =>
  fc.oneof(
    // Wall clocks are arbitrary: any node may be ahead or behind at any time.
    {
      weight: 3,
      arbitrary: fc.record({
        kind: fc.constant('write' as const),
        node,
        nowMs: fc.nat({ max: 6 }),
        deleted: fc.boolean(),
        request: requests,
      }),
    },
    { weight: 5, arbitrary: fc.record({ kind: fc.constant('deliver' as const), from: node, to: node }) },
    { weight: 1, arbitrary: fc.record({ kind: fc.constant('whole' as const), from: node, to: node }) },
  );
const operation: fc.Arbitrary<Operations> = fc.oneof(
  fc.constantFrom<Operations>({ count: { increment: 1 } }, { count: { decrement: 1 } }),
  fc
    .constantFrom('x', 'y')
    .chain((tag) => fc.constantFrom<Operations>({ tags: { add: tag } }, { tags: { remove: tag } })),
  fc.nat({ max: 9 }).map((value): Operations => ({ title: { set: value } })),
);
const operationStep: fc.Arbitrary<HistoryStep> = fc.record({
  kind: fc.constant('operate' as const),
  node,
  nowMs: fc.nat({ max: 6 }),
  operations: operation,
});
const stepsOf = (requests: fc.Arbitrary<number | null>, ...more: fc.Arbitrary<HistoryStep>[]) =>
  fc.array(
    fc.oneof(
      { weight: 9, arbitrary: stepOf(requests) },
      ...more.map((arbitrary) => ({ weight: 3, arbitrary })),
    ),
    {
      minLength: 4,
      maxLength: 60,
    },
  );
const plainSteps = stepsOf(fc.constant(null));
const requestSteps = stepsOf(fc.option(fc.nat({ max: 2 }), { nil: null }));
const operationSteps = stepsOf(fc.constant(null), operationStep);
const pick = fc.nat({ max: 1_000_000 });
const runs = { numRuns: 400 };

/** A state as one comparable value. */
const shown = (state: KeyState<Row>) => ({
  winner: state.winner === null ? null : [dotText(state.winner.version.dot), state.winner.row],
  crdt: state.winner?.version.crdt ?? null,
  seen: state.seen,
  // With an operation goes the row that stood where it was found to be undone, and that may differ.
  losers: Object.fromEntries(
    state.losers.map((one) => [
      dotText(one.version.dot),
      isOperation(one.version) ? 'an operation' : one.row,
    ]),
  ),
});
const expectSame = (a: KeyState<Row>, b: KeyState<Row>) => expect(shown(a)).toEqual(shown(b));

function expectInvariants(state: KeyState<Row>): void {
  const versions = versionsOf(state)
    .map((one) => one.version)
    .filter((version) => !isOperation(version));
  for (const version of versions) {
    expect(includes(state.seen, version.clock)).toBe(true);
    expect(covers(version.clock, version.dot)).toBe(true);
    for (const other of versions) if (other !== version) expect(covers(other.clock, version.dot)).toBe(false);
    if (state.winner!.version !== version)
      expect(compareVersions(state.winner!.version, version)).toBeGreaterThan(0);
  }
  expect(state.winner === null).toBe(versions.length === 0);
}

test('every operation on a CRDT field is in the fields of a living row, or seen by a write, or the operations of its node are in a record', () => {
  let lost = 0;
  fc.assert(
    fc.property(operationSteps, (list) => {
      const history = play(nodes, list);
      const end = history.published.reduce((state, next) => mergeStates(state, next), absentState);
      for (const { dot } of history.operations) {
        const seenBy = versionsOf(end).some(
          ({ version }) => !isOperation(version) && covers(version.clock, dot),
        );
        const reaches = (ops: Clock | undefined): boolean =>
          (ops?.[dot.origin as number] ?? 0) >= dot.counter;
        const counted =
          !end.winner!.version.deleted &&
          Object.values(end.winner!.version.crdt!).some(({ ops }) => reaches(ops));
        const recorded = end.losers.some(
          ({ version }) =>
            isOperation(version) && version.dot.origin === dot.origin && version.dot.counter >= dot.counter,
        );
        expect(seenBy || counted || recorded).toBe(true);
        if (!seenBy && !counted) lost += 1;
      }
    }),
    runs,
  );
  expect(lost).toBeGreaterThan(0);
});

describe.each([
  ['without requests', plainSteps],
  ['with repeated requests', requestSteps],
  ['with operations on CRDT fields', operationSteps],
])('on reachable states %s', (_name, steps) => {
  /** Three states of one history, deltas among them, as they are once all requests are known. */
  const triple = fc.tuple(steps, pick, pick, pick).map(([list, ...picks]) => {
    const history = play(nodes, list);
    const all = [...history.states, ...history.published];
    const chosen = picks.map((at) => mergeStates(all[at % all.length]!, absentState, history.requests));
    return { a: chosen[0]!, b: chosen[1]!, c: chosen[2]!, requests: history.requests, all };
  });

  test('merging is commutative', () => {
    fc.assert(
      fc.property(triple, ({ a, b, requests }) =>
        expectSame(mergeStates(a, b, requests), mergeStates(b, a, requests)),
      ),
      runs,
    );
  });

  test('merging is associative', () => {
    fc.assert(
      fc.property(triple, ({ a, b, c, requests }) =>
        expectSame(
          mergeStates(mergeStates(a, b, requests), c, requests),
          mergeStates(a, mergeStates(b, c, requests), requests),
        ),
      ),
      runs,
    );
  });

  test('merging is idempotent, and merging in again what is already in changes nothing', () => {
    fc.assert(
      fc.property(triple, ({ a, b, requests }) => {
        expectSame(mergeStates(a, a, requests), a);
        const both = mergeStates(a, b, requests);
        expectSame(mergeStates(both, a, requests), both);
        expectSame(mergeStates(both, b, requests), both);
      }),
      runs,
    );
  });

  test('merging only goes forward: what was seen stays seen, what was gone stays gone, the winner only grows', () => {
    fc.assert(
      fc.property(triple, ({ a, b, requests }) => {
        const both = mergeStates(a, b, requests);
        expect(includes(both.seen, a.seen)).toBe(true);
        for (const one of versionsOf(both).filter(({ version }) => !isOperation(version)))
          if (covers(a.seen, one.version.dot))
            expect(versionsOf(a).some((other) => sameDot(other.version.dot, one.version.dot))).toBe(true);
        if (a.winner !== null)
          expect(compareVersions(both.winner!.version, a.winner.version)).toBeGreaterThanOrEqual(0);
      }),
      runs,
    );
  });

  test('every state keeps the invariants, and its winner is the greatest write that was ever merged into it', () => {
    fc.assert(
      fc.property(steps, (list) => {
        const history = play(nodes, list);
        for (const state of history.states) {
          expectInvariants(state);
          // A dot within `seen` was merged, or something greater that has seen it was.
          for (const write of history.writes)
            if (covers(state.seen, write.version.dot))
              expect(compareVersions(state.winner!.version, write.version)).toBeGreaterThanOrEqual(0);
        }
      }),
      runs,
    );
  });

  test('a local write dominates all that its node had seen, whatever the wall clocks say, and never loses to it (G3)', () => {
    fc.assert(
      fc.property(steps, (list) => {
        const history = play(nodes, list);
        for (const { old, write } of history.replaced) {
          expect(includes(write.clock, old.seen)).toBe(true);
          for (const one of versionsOf(old)) expect(compareVersions(write, one.version)).toBeGreaterThan(0);
          for (const state of history.states) {
            if (!covers(state.seen, write.dot)) continue;
            for (const one of versionsOf(state)) expect(covers(old.seen, one.version.dot)).toBe(false);
          }
        }
      }),
      runs,
    );
  });

  test('all orders of all writes end in one state', () => {
    fc.assert(
      fc.property(steps, fc.infiniteStream(pick), (list, order) => {
        const history = play(nodes, list);
        const shuffled = [...history.writes, ...history.writes]
          .map((write) => ({ write, at: order.next().value! }))
          .sort((x, y) => x.at - y.at);
        const fold = (writes: readonly Stamped<Row>[], requests: KnownRequests) =>
          writes.reduce<KeyState<Row>>(
            (state, write) => mergeStates(state, deltaState(write), requests),
            absentState,
          );
        expectSame(
          fold(
            shuffled.map(({ write }) => write),
            history.requests,
          ),
          fold(history.writes, history.requests),
        );
        // Without a memory of requests the same row stands, and as much has been seen.
        const forgetful = fold(
          shuffled.map(({ write }) => write),
          noRequests,
        );
        expect(shown(forgetful).winner).toEqual(shown(fold(history.writes, history.requests)).winner);
        expect(shown(forgetful).seen).toEqual(shown(fold(history.writes, history.requests)).seen);
      }),
      runs,
    );
  });
});

test('one writer never has a conflict, even when others merge its writes in any order', () => {
  fc.assert(
    fc.property(plainSteps, fc.infiniteStream(pick), (list, order) => {
      const single = list.map((step) => (step.kind === 'write' ? { ...step, node: 0 } : step));
      const history = play(nodes, single);
      for (const state of history.states) expect(state.losers).toEqual([]);
      const shuffled = history.writes
        .map((write) => ({ write, at: order.next().value! }))
        .sort((x, y) => x.at - y.at);
      let state: KeyState<Row> = absentState;
      for (const { write } of shuffled) {
        state = mergeStates(state, deltaState(write));
        expect(state.losers).toEqual([]);
      }
    }),
    runs,
  );
});

describe('on states that merely keep the invariants', () => {
  /** A universe of versions with unrelated clocks: no system need be able to produce it. The row and clock follow from the dot, as they do everywhere. */
  const universeOf = (request: fc.Arbitrary<number | null>) =>
    fc
      .array(
        fc.record({
          hlc: fc.nat({ max: 5 }),
          rank: fc.nat({ max: 1 }),
          clock: fc.array(fc.nat({ max: 3 }), { minLength: 3, maxLength: 3 }),
          request,
        }),
        { minLength: 1, maxLength: 9 },
      )
      .map((list) =>
        list.map((one, at): Stamped<Row> => {
          const dot = { origin: ((at % 3) + 1) as NodeNumber, counter: Math.floor(at / 3) + 1 };
          const clock: Clock = {
            ...Object.fromEntries(
              one.clock.map((counter, index) => [index + 1, counter]).filter(([, counter]) => counter! > 0),
            ),
            [dot.origin]: dot.counter,
          };
          const version: Version = {
            rank: one.rank,
            epoch: 0n as Epoch,
            hlc: BigInt(one.hlc) as HlcValue,
            dot,
            clock,
            deleted: false,
            request: one.request === null ? null : `request ${one.request}`,
            crdt: null,
          };
          return { version, row: dotText(dot) };
        }),
      );

  /** Greedily takes versions that do not cover one another, adds what they have seen and a bit more. */
  const stateOf = (
    versions: readonly Stamped<Row>[],
    choice: readonly number[],
    extra: Clock,
  ): KeyState<Row> => {
    const chosen: Stamped<Row>[] = [];
    for (const at of choice) {
      const one = versions[at % versions.length]!;
      if (
        chosen.every(
          (other) =>
            other !== one &&
            !covers(other.version.clock, one.version.dot) &&
            !covers(one.version.clock, other.version.dot),
        )
      )
        chosen.push(one);
    }
    chosen.sort((x, y) => compareVersions(y.version, x.version));
    return {
      winner: chosen[0] ?? null,
      losers: chosen.slice(1),
      seen: chosen.reduce((seen, one) => join(seen, one.version.clock), extra),
    };
  };
  const extra = fc.dictionary(fc.constantFrom('1', '2', '3'), fc.integer({ min: 1, max: 3 }), {
    noNullPrototype: true,
  });
  const choice = fc.array(fc.nat({ max: 20 }), { minLength: 1, maxLength: 6 });
  const tripleOf = (request: fc.Arbitrary<number | null>) =>
    fc
      .tuple(universeOf(request), choice, choice, choice, extra, extra, extra)
      .map(([versions, x, y, z, ...extras]) => ({
        a: stateOf(versions, x, extras[0]),
        b: stateOf(versions, y, extras[1]),
        c: stateOf(versions, z, extras[2]),
        requests: requestsOf(versions.map((one) => one.version)),
      }));

  /** Two such states may each say that what the other holds is gone. That stops the node. */
  const attempt = (merge: () => KeyState<Row>): KeyState<Row> | 'contradiction' => {
    try {
      return merge();
    } catch (error) {
      expect(error).toMatchObject({ code: 'invariant_broken' });
      return 'contradiction';
    }
  };

  test('merging keeps the invariants, or refuses to go on', () => {
    fc.assert(
      fc.property(tripleOf(fc.option(fc.nat({ max: 1 }), { nil: null })), ({ a, b, requests }) => {
        const both = attempt(() => mergeStates(a, b, requests));
        if (both !== 'contradiction') expectInvariants(both);
      }),
      { numRuns: 2000 },
    );
  });

  test('without requests, merging is commutative, associative and idempotent wherever it goes on', () => {
    let compared = 0;
    fc.assert(
      fc.property(tripleOf(fc.constant(null)), ({ a, b, c }) => {
        expectSame(mergeStates(a, a), mergeStates(mergeStates(a, a), a));
        const ab = attempt(() => mergeStates(a, b));
        const ba = attempt(() => mergeStates(b, a));
        const bc = attempt(() => mergeStates(b, c));
        if (ab === 'contradiction' || ba === 'contradiction') return expect(ab).toBe(ba);
        expect(shown(ab).winner).toEqual(shown(ba).winner);
        if (bc === 'contradiction') return;
        const left = attempt(() => mergeStates(ab, c));
        const right = attempt(() => mergeStates(a, bc));
        if (left === 'contradiction' || right === 'contradiction') return expect(left).toBe(right);
        compared += 1;
        expect(shown(left).winner).toEqual(shown(right).winner);
        expect(shown(left).seen).toEqual(shown(right).seen);
      }),
      { numRuns: 2000 },
    );
    expect(compared).toBeGreaterThan(500);
  });
});
