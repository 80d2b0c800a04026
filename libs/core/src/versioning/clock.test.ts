import { expect, test } from '@jest/globals';
import fc from 'fast-check';
import { compareClocks, covers, emptyClock, includes, join, sameClock, type Clock } from './clock.ts';
import type { NodeNumber } from './version.ts';

const clock: fc.Arbitrary<Clock> = fc.dictionary(
  fc.constantFrom('1', '2', '3', '4'),
  fc.integer({ min: 1, max: 5 }),
  { noNullPrototype: true },
);
const dot = (origin: number, counter: number) => ({ origin: origin as NodeNumber, counter });

test('a clock covers the counters of a node up to its entry', () => {
  expect(covers({ 1: 5 }, dot(1, 5))).toBe(true);
  expect(covers({ 1: 5 }, dot(1, 4))).toBe(true);
  expect(covers({ 1: 5 }, dot(1, 6))).toBe(false);
  expect(covers({ 1: 5 }, dot(2, 1))).toBe(false);
});

test('joining is commutative, associative and idempotent, and changes neither side', () => {
  fc.assert(
    fc.property(clock, clock, clock, (a, b, c) => {
      const before = JSON.stringify([a, b, c]);
      expect(sameClock(join(a, b), join(b, a))).toBe(true);
      expect(sameClock(join(join(a, b), c), join(a, join(b, c)))).toBe(true);
      expect(join(a, a)).toBe(a);
      expect(JSON.stringify([a, b, c])).toBe(before);
    }),
  );
});

test('a join is the least clock that includes both', () => {
  fc.assert(
    fc.property(clock, clock, clock, (a, b, other) => {
      const both = join(a, b);
      expect(includes(both, a) && includes(both, b)).toBe(true);
      if (includes(other, a) && includes(other, b)) expect(includes(other, both)).toBe(true);
    }),
  );
});

test('a join that adds nothing is the same object, so that callers can tell cheaply', () => {
  fc.assert(fc.property(clock, clock, (a, b) => expect(join(a, b) === a).toBe(includes(a, b))));
});

test('clocks compare as what has been seen', () => {
  expect(compareClocks({ 1: 2 }, { 1: 2 })).toBe('equal');
  expect(compareClocks({ 1: 2 }, { 1: 2, 2: 1 })).toBe('before');
  expect(compareClocks({ 1: 2, 2: 1 }, { 1: 2 })).toBe('after');
  expect(compareClocks({ 1: 2 }, { 2: 1 })).toBe('concurrent');
  expect(compareClocks(emptyClock, emptyClock)).toBe('equal');
});
