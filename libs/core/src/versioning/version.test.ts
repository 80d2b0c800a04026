import { expect, test } from '@jest/globals';
import fc from 'fast-check';
import {
  compareVersions,
  dotText,
  sameDot,
  type Epoch,
  type HlcValue,
  type NodeNumber,
  type Version,
} from './version.ts';

const version: fc.Arbitrary<Version> = fc
  .record({
    rank: fc.nat({ max: 2 }),
    epoch: fc.nat({ max: 2 }),
    hlc: fc.nat({ max: 2 }),
    origin: fc.integer({ min: 1, max: 3 }),
    counter: fc.integer({ min: 1, max: 3 }),
  })
  .map(({ rank, epoch, hlc, origin, counter }) => ({
    rank,
    epoch: BigInt(epoch) as Epoch,
    hlc: BigInt(hlc) as HlcValue,
    dot: { origin: origin as NodeNumber, counter },
    clock: { [origin]: counter },
    deleted: false,
    request: null,
    crdt: null,
  }));
const inOrder = (one: Version) => [
  one.rank,
  Number(one.epoch),
  Number(one.hlc),
  one.dot.origin,
  one.dot.counter,
];

test('versions are ordered by rank, epoch, hlc, node and counter, in that order', () => {
  fc.assert(
    fc.property(version, version, (a, b) => {
      const [left, right] = [inOrder(a), inOrder(b)];
      const at = left.findIndex((value, index) => value !== right[index]);
      expect(Math.sign(compareVersions(a, b))).toBe(at < 0 ? 0 : Math.sign(left[at]! - right[at]!));
    }),
    { numRuns: 2000 },
  );
});

test('the order is total: two versions tie only when their dots are the same', () => {
  fc.assert(
    fc.property(version, version, version, (a, b, c) => {
      expect(Math.sign(compareVersions(a, b))).toBe(-Math.sign(compareVersions(b, a)) + 0);
      if (compareVersions(a, b) === 0) expect(sameDot(a.dot, b.dot)).toBe(true);
      if (compareVersions(a, b) > 0 && compareVersions(b, c) > 0)
        expect(compareVersions(a, c)).toBeGreaterThan(0);
    }),
    { numRuns: 2000 },
  );
});

test('a dot is written as origin and counter', () => {
  expect(dotText({ origin: 12 as NodeNumber, counter: 9_007_199_254_740_991 })).toBe('12.9007199254740991');
});
