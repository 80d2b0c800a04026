/** GCounter, PNCounter, LwwRegister and OrSet for use alone: lattices, with the values that their users expect. */
import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { GCounter } from './g-counter.ts';
import { LwwRegister } from './lww-register.ts';
import { OrSet, type Element } from './or-set.ts';
import { PNCounter } from './pn-counter.ts';

const nodes = 3;
const node = fc.nat({ max: nodes - 1 });

interface Mergeable<T> {
  merge(other: T): T;
  toJSON(): unknown;
}

/** What nodes come to that do something, or merge what another one has, in any order. */
function histories<T extends Mergeable<T>, D>(
  create: (node: number) => T,
  doing: fc.Arbitrary<D>,
  act: (value: T, done: D) => T,
) {
  const step = fc.oneof(fc.record({ node, done: doing }), fc.record({ node, from: node }));
  return fc.array(step, { minLength: 3, maxLength: 25, size: 'max' }).map((steps) => {
    const current = Array.from({ length: nodes }, (_, at) => create(at + 1));
    const states = [...current];
    const done: D[] = [];
    for (const one of steps) {
      const old = current[one.node]!;
      const next = 'from' in one ? old.merge(current[one.from]!) : act(old, one.done);
      if (!('from' in one)) done.push(one.done);
      current[one.node] = next;
      states.push(next);
    }
    return { states, done, all: current.reduce((a, b) => a.merge(b)) };
  });
}

function laws<T extends Mergeable<T>, D>(
  name: string,
  played: fc.Arbitrary<{ states: T[]; done: D[]; all: T }>,
): void {
  const triple = fc
    .tuple(played, fc.nat(), fc.nat(), fc.nat())
    .map(([{ states }, ...at]) => at.map((one) => states[one % states.length]!));
  const same = (a: T, b: T) => expect(a.toJSON()).toEqual(b.toJSON());
  test(`${name}: merging is commutative, associative and idempotent, and keeps what is in`, () => {
    fc.assert(
      fc.property(triple, ([a, b, c]) => {
        const before = JSON.stringify([a, b, c]);
        const both = a!.merge(b!);
        same(both, b!.merge(a!));
        same(both.merge(c!), a!.merge(b!.merge(c!)));
        same(a!.merge(a!), a!);
        same(both.merge(a!), both);
        same(both.merge(b!), both);
        expect(JSON.stringify([a, b, c])).toBe(before);
      }),
      { numRuns: 300 },
    );
  });
}

const amount = fc.integer({ min: 1, max: 1000 });
const sum = (amounts: readonly number[]) => amounts.reduce((a, b) => a + b, 0);

describe('GCounter', () => {
  const played = histories(
    (at) => new GCounter(at),
    amount,
    (counter, by) => counter.increment(by),
  );
  laws('GCounter', played);

  test('shows all that was counted, and never less than before', () => {
    fc.assert(
      fc.property(played, fc.nat(), fc.nat(), ({ states, done, all }, x, y) => {
        expect(all.value).toBe(sum(done));
        const [a, b] = [states[x % states.length]!, states[y % states.length]!];
        expect(a.merge(b).value).toBeGreaterThanOrEqual(Math.max(a.value, b.value));
      }),
    );
  });

  test('comes back out of its JSON', () => {
    const counter = new GCounter(1).increment().merge(new GCounter(2).increment(4));
    expect(JSON.stringify(counter)).toBe('{"1":1,"2":4}');
    expect(new GCounter(1, JSON.parse(JSON.stringify(counter)) as never).increment().value).toBe(6);
  });

  test('counts whole numbers up to 2^53 - 1, and refuses more', () => {
    for (const wrong of [0, -1, 1.5, Number.NaN, 2 ** 53])
      expect(() => new GCounter(1).increment(wrong)).toThrow(
        expect.objectContaining({ code: 'invalid_request' }),
      );
    const full = new GCounter(1).increment(Number.MAX_SAFE_INTEGER);
    expect(() => full.increment()).toThrow(expect.objectContaining({ code: 'invalid_request' }));
    // What two nodes counted without knowing of each other stops there.
    expect(full.merge(new GCounter(2).increment(7)).value).toBe(Number.MAX_SAFE_INTEGER);
  });
});

describe('PNCounter', () => {
  const signed = fc.tuple(amount, fc.boolean()).map(([by, up]) => (up ? by : -by));
  const played = histories(
    (at) => new PNCounter(at),
    signed,
    (counter, by) => (by > 0 ? counter.increment(by) : counter.decrement(-by)),
  );
  laws('PNCounter', played);

  test('shows what was added less what was taken away', () => {
    fc.assert(fc.property(played, ({ done, all }) => expect(all.value).toBe(sum(done))));
  });

  test('comes back out of its JSON, and refuses what is no amount', () => {
    const counter = new PNCounter(1).increment(5).decrement(7);
    expect(JSON.stringify(counter)).toBe('{"1":[5,7]}');
    expect(new PNCounter(2, JSON.parse(JSON.stringify(counter)) as never).increment().value).toBe(-1);
    expect(() => counter.decrement(-1)).toThrow(expect.objectContaining({ code: 'invalid_request' }));
    expect(() => counter.increment(Number.MAX_SAFE_INTEGER)).toThrow(
      expect.objectContaining({ code: 'invalid_request' }),
    );
  });
});

describe('LwwRegister', () => {
  const setting = fc.record({ value: fc.string(), ms: fc.nat({ max: 5 }) });
  const played = histories(
    (at) => new LwwRegister<string>(at),
    setting,
    (register, { value, ms }) => register.set(value, ms),
  );
  laws('LwwRegister', played);

  test('shows what was set last, also by a node whose clock is behind', () => {
    fc.assert(
      fc.property(played, fc.nat(), setting, ({ states }, at, { value, ms }) => {
        const register = states[at % states.length]!;
        const set = register.set(value, ms);
        expect(set.value).toBe(value);
        expect(register.merge(set).value).toBe(value);
      }),
    );
    expect(new LwwRegister(1).value).toBe(null);
  });

  test('of two that were set at one time without knowing of each other shows that of the greater node', () => {
    const [a, b] = [
      new LwwRegister<string>(1).set('of 1', 1000),
      new LwwRegister<string>(2).set('of 2', 1000),
    ];
    expect([a.merge(b).value, b.merge(a).value]).toEqual(['of 2', 'of 2']);
    expect(a.set('later', 1001).merge(b).value).toBe('later');
    expect(JSON.stringify(a)).toBe('["of 1","65536000",1,1]');
  });
});

describe('OrSet', () => {
  const change = fc.record({ add: fc.boolean(), value: fc.constantFrom<Element>('a', 'b', 1, true) });
  const played = histories(
    (at) => new OrSet(at),
    change,
    (set, { add, value }) => (add ? set.add(value) : set.remove(value)),
  );
  laws('OrSet', played);

  test('shows what its user did last to what it shows', () => {
    fc.assert(
      fc.property(played, fc.nat(), change, ({ states }, at, { add, value }) => {
        const before = states[at % states.length]!;
        const after = add ? before.add(value) : before.remove(value);
        expect(after.has(value)).toBe(add);
        expect(after.values).toEqual(
          add ? new OrSet(9).merge(before).add(value).values : before.values.filter((one) => one !== value),
        );
        // Nobody who merges it brings a removed element back, or loses an added one.
        expect(before.merge(after).has(value)).toBe(add);
      }),
    );
  });

  test('keeps an element that one node adds again while another one removes it', () => {
    const here = new OrSet(1).add('red').add('blue');
    const there = new OrSet(2).merge(here).remove('red').remove('blue');
    expect(here.add('red').merge(there).values).toEqual(['red']);
    expect(there.merge(here.add('red')).values).toEqual(['red']);
  });

  test('sorts booleans, numbers and texts, comes back out of its JSON, and refuses what is no element', () => {
    const set = (['b', 'a', 10, 9, true] as const).reduce((all, one) => all.add(one), new OrSet(1));
    expect(set.values).toEqual([true, 9, 10, 'a', 'b']);
    expect(new OrSet(2, JSON.parse(JSON.stringify(set)) as never).remove('a').values).toEqual([
      true,
      9,
      10,
      'b',
    ]);
    for (const wrong of [0.5, 'a\0', '\ud800', 'x'.repeat(1023), null, {}])
      expect(() => set.add(wrong as never)).toThrow(expect.objectContaining({ code: 'invalid_request' }));
  });
});
