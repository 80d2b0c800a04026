import { expect, test } from '@jest/globals';
import fc from 'fast-check';
import { goldenRangeShards, goldenSplitPoints } from './golden-split-points.testing.ts';
import { shardOf, splitPointsProblem } from './partitioning.ts';

const golden = {
  shards: goldenSplitPoints.length + 1,
  partitioning: { type: 'range', splitPoints: goldenSplitPoints },
} as const;

test.each(goldenRangeShards)('the range of %j is shard %i', (key, shard) => {
  expect(shardOf(key, golden)).toBe(shard);
});

test('a shard is the number of split points that are not greater than the key as bytes', () => {
  const text = fc.string({ unit: 'grapheme', minLength: 1, maxLength: 4 });
  fc.assert(
    fc.property(fc.uniqueArray(text, { minLength: 1, maxLength: 8 }), text, (unsorted, key) => {
      const splitPoints = unsorted.toSorted((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b)));
      const counted = splitPoints.filter(
        (point) => Buffer.compare(Buffer.from(point), Buffer.from(key)) <= 0,
      );
      expect(splitPointsProblem(splitPoints)).toBeNull();
      expect(
        shardOf(key, { shards: splitPoints.length + 1, partitioning: { type: 'range', splitPoints } }),
      ).toBe(counted.length);
    }),
  );
});

test.each([
  [['b', 'a'], /^splitPoints.1: has to come after/],
  [['a', 'a'], /^splitPoints.1/],
  [['\u{1F600}', '\uFFFD'], /^splitPoints.1/],
  [[''], /^splitPoints.0: is a text/],
  [['a\0'], /^splitPoints.0/],
  [['\uD800'], /^splitPoints.0/],
])('split points that make no sense are told apart: %j', (points, problem) => {
  expect(splitPointsProblem(points)).toMatch(problem);
});
