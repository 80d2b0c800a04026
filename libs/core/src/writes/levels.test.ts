import { expect, test } from '@jest/globals';
import fc from 'fast-check';
import { isMet, reachedBy, requiredOf } from './levels.ts';

const names = (count: number): string[] => Array.from({ length: count }, (_, at) => `n${at + 1}`);

test.each([
  [1, 1],
  [2, 2],
  [3, 2],
  [4, 3],
  [5, 3],
])('a majority of %d is %d', (count, majority) => {
  const sets = [names(count)];
  expect(requiredOf('quorum', sets)).toBe(majority);
  expect(isMet('quorum', sets, new Set(names(majority)))).toBe(true);
  expect(isMet('quorum', sets, new Set(names(majority - 1)))).toBe(false);
  expect(isMet('all', sets, new Set(names(count)))).toBe(true);
  expect(isMet('all', sets, new Set(names(count - 1)))).toBe(false);
});

test('while replicas change the old ones and the new ones must have a majority each', () => {
  const sets = [
    ['a', 'b', 'c'],
    ['c', 'd', 'e'],
  ];
  expect(isMet('quorum', sets, new Set(['a', 'b']))).toBe(false);
  expect(isMet('quorum', sets, new Set(['a', 'c']))).toBe(false);
  expect(isMet('quorum', sets, new Set(['a', 'c', 'd']))).toBe(true);
  expect(reachedBy(sets, new Set(['a', 'b', 'c', 'd', 'e']))).toBe('all');
  expect(reachedBy(sets, new Set(['a', 'b']))).toBe('one');
  expect(reachedBy(sets, new Set())).toBeNull();
});

test('a node that is no replica counts for nothing', () => {
  expect(isMet('quorum', [['a', 'b', 'c']], new Set(['x', 'y', 'a']))).toBe(false);
});

test('quorums of sets that differ by one node always meet', () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 7 }),
      fc.array(fc.boolean(), { minLength: 8, maxLength: 8 }),
      fc.array(fc.boolean(), { minLength: 8, maxLength: 8 }),
      (count, first, second) => {
        const before = names(count);
        const after = names(count + 1);
        const chosen = (flags: boolean[]) => new Set(after.filter((_, at) => flags[at]));
        const [one, other] = [chosen(first), chosen(second)];
        if (!isMet('quorum', [before], one) || !isMet('quorum', [after], other)) return;
        expect([...one].some((name) => other.has(name) && before.includes(name))).toBe(true);
      },
    ),
    { numRuns: 2000 },
  );
});
