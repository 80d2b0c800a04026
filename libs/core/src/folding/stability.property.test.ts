/**
 * The rule of folding on histories of one key on several masters, made with the production code: masters publish their states, which arrive late, twice and in
 * any order, and requests are repeated anywhere at any time, before and after they were folded. Whatever a master shows is what it has seen,
 * each request once. Without either half of the rule, or without remembering, histories are found where that fails.
 */
import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { join, type Clock } from '../versioning/clock.ts';
import { applyOperations } from '../versioning/crdt/apply-operations.ts';
import { fold, foldable, lowestOrigin } from '../versioning/crdt/fold.ts';
import { livesOf, mergeCrdt, type SeenCrdt } from '../versioning/crdt/state.ts';
import { valueOf } from '../versioning/crdt/values.ts';
import type { HlcValue, NodeNumber } from '../versioning/version.ts';
import { hasUnfolded, isHeard, isSeenByAll, type Looks } from './stability.ts';

const nodes = 3;
const fields = { n: 'pn-counter' } as const;
const requestOf = (n: number): string => `0190b2a4-0000-7000-8000-00000000000${n}`;
/** Sums tell which requests were counted, and how often. */
const amountOf = (n: number): number => 10 ** n;

type Step =
  | { readonly kind: 'request'; readonly node: number; readonly n: number }
  | { readonly kind: 'publish'; readonly node: number }
  | { readonly kind: 'arrive'; readonly node: number; readonly which: number }
  | { readonly kind: 'look'; readonly node: number; readonly at: number }
  | { readonly kind: 'fold'; readonly node: number };

interface Rule {
  readonly isHeard: typeof isHeard;
  readonly isSeenByAll: typeof isSeenByAll;
  readonly remembers: boolean;
}
const rule: Rule = { isHeard, isSeenByAll, remembers: true };

interface Master extends SeenCrdt {
  readonly remembered: Set<string>;
  readonly looks: Map<NodeNumber, Clock>;
}

class Play {
  readonly masters: Master[] = Array.from({ length: nodes }, () => ({
    crdt: { '0.0': {} },
    seen: {},
    remembered: new Set(),
    looks: new Map(),
  }));
  readonly published: SeenCrdt[] = [];
  readonly made = new Set<number>();
  folds = 0;
  readonly #rule: Rule;
  readonly #counters = new Array<number>(nodes).fill(0);

  constructor(used: Rule) {
    this.#rule = used;
  }

  step(step: Step): void {
    const at = step.node;
    const master = this.masters[at]!;
    if (step.kind === 'request') this.#request(at, step.n);
    else if (step.kind === 'publish') this.published.push({ crdt: master.crdt, seen: master.seen });
    else if (step.kind === 'arrive') {
      if (this.published.length > 0) this.#merge(at, this.published[step.which % this.published.length]!);
    } else if (step.kind === 'look') {
      if (step.at !== at) master.looks.set(this.#number(step.at), this.masters[step.at]!.seen);
    } else this.#fold(at);
  }

  /** Everything arrives everywhere, and all looks are taken at once. */
  settle(): void {
    for (let round = 0; round < 2; round += 1)
      for (const at of this.masters.keys()) for (const from of this.masters) this.#merge(at, from);
    for (const node of this.masters.keys())
      for (const at of this.masters.keys()) this.step({ kind: 'look', node, at });
  }

  value(at: number): number {
    return valueOf(this.masters[at]!.crdt, 'n', fields.n) as number;
  }

  #number = (at: number): NodeNumber => (at + 1) as NodeNumber;

  #request(at: number, n: number): void {
    const { crdt, remembered } = this.masters[at]!;
    const request = requestOf(n);
    if (remembered.has(request)) return;
    const applied = applyOperations({
      state: crdt,
      fields,
      operations: { n: { increment: amountOf(n) } },
      dot: { origin: this.#number(at), counter: this.#counters[at]! + 1 },
      hlc: 1n as HlcValue,
      request,
    });
    if (!applied.ok || !applied.changed) return;
    this.made.add(n);
    remembered.add(request);
    this.#write(at, applied.state);
  }

  /** With a dot of its own. */
  #write(at: number, crdt: SeenCrdt['crdt']): void {
    this.#counters[at]! += 1;
    const master = this.masters[at]!;
    this.masters[at] = { ...master, crdt, seen: { ...master.seen, [this.#number(at)]: this.#counters[at]! } };
  }

  #merge(at: number, from: SeenCrdt): void {
    const master = this.masters[at]!;
    this.masters[at] = { ...master, crdt: mergeCrdt(master, from), seen: join(master.seen, from.seen) };
  }

  #fold(at: number): void {
    const { crdt, seen, looks } = this.masters[at]!;
    const me = this.#number(at);
    const used: Looks = new Map(looks);
    if (used.size < nodes - 1 || !this.#rule.isHeard(seen, used)) return;
    for (const { request, at: dots } of foldable(livesOf(crdt)))
      if (this.#rule.remembers && lowestOrigin(dots) === me && this.#rule.isSeenByAll(dots, used))
        for (const master of this.masters) master.remembered.add(request);
    const folded = fold({ state: crdt, fields, me, stable: (_, dots) => this.#rule.isSeenByAll(dots, used) });
    looks.clear();
    if (folded === crdt) return;
    this.folds += 1;
    this.#write(at, folded);
  }
}

const node = fc.nat({ max: nodes - 1 });
const steps = fc.array(
  fc.oneof(
    {
      weight: 3,
      arbitrary: fc.record({ kind: fc.constant('request' as const), node, n: fc.nat({ max: 4 }) }),
    },
    { weight: 3, arbitrary: fc.record({ kind: fc.constant('publish' as const), node }) },
    {
      weight: 5,
      arbitrary: fc.record({ kind: fc.constant('arrive' as const), node, which: fc.nat({ max: 1000 }) }),
    },
    { weight: 6, arbitrary: fc.record({ kind: fc.constant('look' as const), node, at: node }) },
    { weight: 4, arbitrary: fc.record({ kind: fc.constant('fold' as const), node }) },
  ),
  { maxLength: 80, size: 'max' },
);

function play(list: readonly Step[], used: Rule): Play {
  const played = new Play(used);
  for (const one of list) played.step(one);
  return played;
}

/** Once all is known everywhere each request counts once. Digits of the sums say which one did not. */
function isRight(played: Play): boolean {
  played.settle();
  const expected = [...played.made].reduce((sum, n) => sum + amountOf(n), 0);
  return played.masters.every((_, at) => played.value(at) === expected);
}

test('each request counts once, whatever is repeated where and when, and in the end all are folded', () => {
  let folds = 0;
  fc.assert(
    fc.property(steps, (list) => {
      const played = play(list, rule);
      expect(isRight(played)).toBe(true);
      for (let round = 0; round < 2; round += 1) {
        for (let at = 0; at < nodes; at += 1) played.step({ kind: 'fold', node: at });
        played.settle();
      }
      for (const [at, { crdt }] of played.masters.entries())
        expect(hasUnfolded(crdt, (at + 1) as NodeNumber)).toBe(false);
      for (const n of played.made)
        for (let at = 0; at < nodes; at += 1) played.step({ kind: 'request', node: at, n });
      expect(isRight(played)).toBe(true);
      folds += played.folds;
    }),
    { numRuns: 2000 },
  );
  expect(folds).toBeGreaterThan(1000);
});

test('on the way no master shows a request twice', () => {
  fc.assert(
    fc.property(steps, (list) => {
      const played = new Play(rule);
      const twice = list.some((one) => {
        played.step(one);
        return played.masters.some((_, at) => !/^[01]+$/.test(String(played.value(at))));
      });
      expect(twice).toBe(false);
    }),
    { numRuns: 1000 },
  );
});

describe('a rule that lacks', () => {
  const all = () => true;
  test.each<[string, Rule]>([
    ['that others have seen the request', { ...rule, isSeenByAll: all }],
    ['that they were heard', { ...rule, isHeard: all }],
    ['that they remember it', { ...rule, remembers: false }],
  ])('%s counts a request twice', (_name, used) => {
    const found = fc.check(
      fc.property(steps, (list) => isRight(play(list, used))),
      // Rare histories show the last one: from another seed on it can take more than these.
      { numRuns: 20_000, seed: 8 },
    );
    expect(found.failed).toBe(true);
  });
});

describe('looks', () => {
  const looks = (entries: readonly [number, Clock][]): Looks => new Map(entries as [NodeNumber, Clock][]);

  test('are heard when all that the members had seen of their own dots is here', () => {
    const taken = looks([
      [2, { 1: 5, 2: 7 }],
      [3, { 1: 5, 3: 9 }],
    ]);
    expect(isHeard({ 1: 5, 2: 7, 3: 9 }, taken)).toBe(true);
    expect(isHeard({ 1: 5, 2: 6, 3: 9 }, taken)).toBe(false);
    expect(isHeard({ 1: 5, 2: 7 }, taken)).toBe(false);
  });

  test('ask of third members nothing that a look at them does not ask, and all of numbers that nobody has', () => {
    expect(
      isHeard(
        { 2: 7, 3: 9 },
        looks([
          [2, { 2: 7, 3: 12 }],
          [3, { 3: 9 }],
        ]),
      ),
    ).toBe(true);
    expect(isHeard({ 2: 7 }, looks([[2, { 2: 7, 8: 1 }]]))).toBe(false);
  });

  test('show what all have seen only when each has seen each dot', () => {
    const taken = looks([
      [2, { 1: 5, 3: 2 }],
      [3, { 1: 6, 3: 2 }],
    ]);
    expect(isSeenByAll({ 1: 5 }, taken)).toBe(true);
    expect(isSeenByAll({ 1: 6 }, taken)).toBe(false);
    expect(isSeenByAll({ 1: 5, 3: 3 }, taken)).toBe(false);
    expect(isSeenByAll({ 1: 1 }, looks([[2, {}]]))).toBe(false);
    expect(isSeenByAll({ 1: 1 }, looks([]))).toBe(true);
  });

  test('what a node has to fold is what it is the lowest to have carried out, in any life', () => {
    const crdt = {
      '1.1': { k: { [requestOf(1)]: { at: { 2: 4, 3: 1 }, d: { n: 1 } } } },
      '2.2': { k: { [requestOf(1)]: { at: { 3: 4 }, d: { n: 1 } } } },
    };
    expect([1, 2, 3].map((number) => hasUnfolded(crdt, number as NodeNumber))).toEqual([false, true, true]);
    expect(hasUnfolded(null, 1 as NodeNumber)).toBe(false);
  });
});
