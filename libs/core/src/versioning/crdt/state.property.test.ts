/** The laws of merging CRDT states under their causal context, on states that nodes reach, and what they show against a naive model. */
import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { covers, includes, type Clock } from '../clock.ts';
import type { NodeNumber } from '../version.ts';
import { modelValues } from './history-model.testing.ts';
import { CrdtHistory, historyFields, mergeNodes, type CrdtStep, type NodeState } from './history.testing.ts';
import type { Operation } from './operation.ts';
import { fold, foldable } from './fold.ts';
import { dotOf, livesOf, sameCrdt, uncovered } from './state.ts';
import { valuesOf } from './values.ts';

const nodes = 3;
const node = fc.nat({ max: nodes - 1 });
const element = fc.constantFrom('a', 'b', 1);
const amount = fc.integer({ min: 1, max: 9 });
const operations: fc.Arbitrary<Record<string, Operation>> = fc.oneof(
  amount.map((increment) => ({ likes: { increment } })),
  amount.map((increment) => ({ stock: { increment } })),
  amount.map((decrement) => ({ stock: { decrement } })),
  element.map((add) => ({ tags: { add } })),
  element.map((remove) => ({ tags: { remove } })),
  fc.nat({ max: 1000 }).map((set) => ({ title: { set } })),
  fc.tuple(amount, element).map(([increment, add]) => ({ likes: { increment }, tags: { add } })),
);
// Wall clocks are arbitrary: any node may be ahead or behind at any time.
const hlc = fc.bigInt({ min: 1n, max: 6n });
const step: fc.Arbitrary<CrdtStep> = fc.oneof(
  {
    weight: 8,
    arbitrary: fc.record({
      kind: fc.constant('operate' as const),
      node,
      operations,
      hlc,
      request: fc.constant(null),
    }),
  },
  {
    weight: 4,
    arbitrary: fc.record({
      kind: fc.constant('operate' as const),
      node,
      operations: fc.constant(null),
      hlc,
      request: fc.nat({ max: 3 }),
    }),
  },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant('insert' as const), node }) },
  { weight: 12, arbitrary: fc.record({ kind: fc.constant('merge' as const), from: node, to: node }) },
  { weight: 4, arbitrary: fc.record({ kind: fc.constant('fold' as const), node }) },
);
/** Each tells its neighbour, twice around: then all know all. */
const spread: readonly CrdtStep[] = Array.from({ length: 2 * nodes }, (_, at) => ({
  kind: 'merge',
  from: at % nodes,
  to: (at + 1) % nodes,
}));
const steps = fc.oneof(
  { weight: 20, arbitrary: step.map((one): readonly CrdtStep[] => [one]) },
  { weight: 1, arbitrary: fc.constant(spread) },
);
const history = fc.array(steps, { minLength: 4, maxLength: 60, size: 'max' }).map((list) => {
  const played = new CrdtHistory(nodes);
  for (const one of list.flat()) played.play(one);
  return played;
});
const pick = fc.nat({ max: 1_000_000 });
const triple = fc.tuple(history, pick, pick, pick).map(([played, ...picks]) => {
  const [a, b, c] = picks.map((at) => played.states[at % played.states.length]!);
  return { played, a: a!, b: b!, c: c! };
});
const runs = { numRuns: 300 };

const expectSame = (a: NodeState, b: NodeState) => {
  expect(a.crdt).toEqual(b.crdt);
  expect(sameCrdt(a.crdt, b.crdt)).toBe(true);
};
const merge = mergeNodes;

describe('on states that nodes reach', () => {
  test('merging is commutative', () => {
    fc.assert(
      fc.property(triple, ({ a, b }) => expectSame(merge(a, b), merge(b, a))),
      runs,
    );
  });

  test('merging is associative', () => {
    fc.assert(
      fc.property(triple, ({ a, b, c }) => expectSame(merge(merge(a, b), c), merge(a, merge(b, c)))),
      runs,
    );
  });

  test('merging is idempotent, and what is merged in stays in: states only grow', () => {
    fc.assert(
      fc.property(triple, ({ a, b, c }) => {
        expectSame(merge(a, { ...a, crdt: structuredClone(a.crdt) }), a);
        const both = merge(a, b);
        expectSame(merge(both, a), both);
        expectSame(merge(both, b), both);
        // Callers tell by identity that nothing was new.
        for (const one of [a, b])
          expect(merge(both, { ...one, crdt: structuredClone(one.crdt) }).crdt).toBe(both.crdt);
        const all = merge(both, c);
        expectSame(merge(all, merge(b, c)), all);
      }),
      runs,
    );
  });

  test('a state shows what the model makes of all the events it has seen', () => {
    let [folds, shared] = [0, 0];
    fc.assert(
      fc.property(triple, ({ played, a, b, c }) => {
        for (const state of [a, merge(a, b), merge(merge(a, b), c), played.current.reduce(merge)])
          expect(valuesOf(state.crdt, historyFields)).toEqual(modelValues(played, state.events));
        folds += played.folded.size;
        shared += Object.keys(livesOf(played.current.reduce(merge).crdt)).length > 1 ? 1 : 0;
      }),
      { numRuns: 1000 },
    );
    // Or this would show little.
    expect(folds).toBeGreaterThan(120);
    expect(shared).toBeGreaterThan(120);
  });

  test('once all is merged everywhere, every node can fold the rest of its requests, and nothing changes', () => {
    fc.assert(
      fc.property(history, (played) => {
        const all = played.current.reduce(merge);
        const before = valuesOf(all.crdt, historyFields);
        for (const one of spread) played.play(one);
        for (let at = 0; at < nodes; at += 1) played.play({ kind: 'fold', node: at });
        const after = played.current.reduce(merge);
        expect(foldable(livesOf(after.crdt))).toEqual([]);
        expect(valuesOf(after.crdt, historyFields)).toEqual(before);
      }),
      runs,
    );
  });

  test('a state holds nothing empty, and no dot that its context does not cover', () => {
    fc.assert(
      fc.property(triple, ({ a, b }) => {
        const { crdt, seen } = merge(a, b);
        const lives = livesOf(crdt);
        expect(JSON.stringify(Object.values(lives).map((life) => Object.values(life)))).not.toMatch(/\{\}/);
        for (const [dot, { ops = {}, f = {}, k = {} }] of Object.entries(lives)) {
          expect(dot === '0.0' || covers(seen, dotOf(dot))).toBe(true);
          expect(includes(seen, ops)).toBe(true);
          for (const dots of [...Object.values(f['tags']?.s ?? {}), ...Object.values(k).map((one) => one.at)])
            expect(includes(seen, dots)).toBe(true);
        }
        expect(crdt === null || JSON.stringify(crdt) !== '{"0.0":{}}').toBe(true);
      }),
      runs,
    );
  });

  test('the operations that a clock does not cover are found, the last of each origin', () => {
    fc.assert(
      fc.property(triple, ({ played, a, b }) => {
        const lives = livesOf(a.crdt);
        const expected: Record<string, number> = {};
        for (const { id, dot, what } of played.events) {
          if (
            what.kind === 'operate' &&
            a.events.has(id) &&
            !b.events.has(id) &&
            lives[what.life] !== undefined
          )
            expected[dot.origin] = Math.max(expected[dot.origin] ?? 0, dot.counter);
        }
        const found: Clock = Object.fromEntries(
          uncovered(a.crdt, b.seen).map(({ origin, counter }) => [origin, counter]),
        );
        expect(found).toEqual(expected);
      }),
      runs,
    );
  });
});

test('folding leaves alone what is not stable, not its own, or in two lives', () => {
  const request = '0190b2a4-0000-7000-8000-000000000001';
  const k = { [request]: { at: { 1: 4, 2: 9 }, d: { likes: 2 } } };
  const all = { fields: historyFields, me: 1 as NodeNumber, stable: () => true };
  const one = { '1.1': { k } };
  expect(fold({ ...all, state: one })).toEqual({ '1.1': { f: { likes: { g: { 1: 2 } } } } });
  expect(fold({ ...all, state: one, stable: () => false })).toBe(one);
  expect(fold({ ...all, state: one, me: 2 as NodeNumber })).toBe(one);
  expect(fold({ ...all, state: one, fields: {} })).toBe(one);
  const two = { '1.1': { k }, '2.2': { k: { [request]: { at: { 3: 1 }, d: { likes: 2 } } } } };
  expect(fold({ ...all, state: two })).toBe(two);
  const full = { '1.1': { k, f: { likes: { g: { 1: Number.MAX_SAFE_INTEGER } } } } };
  expect(fold({ ...all, state: full })).toBe(full);
  expect(fold({ ...all, state: null })).toBe(null);
});
