import { expect, test } from '@jest/globals';
import fc from 'fast-check';
import { EdgePace, Paces } from './pace.ts';
import { TokenBucket } from './token-bucket.ts';

/** Reads messages as fast as it may; how many bytes in how many ms. */
function read(bucket: TokenBucket, messages: readonly number[]): { bytes: number; ms: number } {
  let now = 0;
  let bytes = 0;
  for (const message of messages) {
    now += bucket.waitMs(now);
    bucket.spend(message, now);
    bytes += message;
  }
  return { bytes, ms: now + bucket.waitMs(now) };
}

test('over time no more than the rate is read, and no less by whoever wants more, whatever the sizes are', () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 1024, max: 100_000_000 }),
      fc.array(fc.integer({ min: 1, max: 5_000_000 }), { minLength: 20, maxLength: 200 }),
      (rate, messages) => {
        const { bytes, ms } = read(new TokenBucket(rate, 0), messages);
        expect(ms).toBeCloseTo((bytes / rate) * 1000, 3);
      },
    ),
  );
});

test('quiet time is made up for by no more than a burst', () => {
  const bucket = new TokenBucket(1000, 0);
  bucket.spend(250, 1_000_000);
  expect(bucket.waitMs(1_000_000)).toBe(0);
  bucket.spend(1, 1_000_000);
  expect(bucket.waitMs(1_000_000)).toBe(1);
});

test('a limit that is changed holds for what is owed, and none lets go at once', () => {
  const bucket = new TokenBucket(1000, 0);
  bucket.spend(10_000, 0);
  expect(bucket.waitMs(0)).toBe(10_000);
  bucket.limit(10_000, 0);
  expect(bucket.waitMs(0)).toBe(1000);
  bucket.limit(null, 0);
  expect(bucket.waitMs(0)).toBe(0);
  bucket.spend(1e9, 0);
  expect(bucket.waitMs(0)).toBe(0);
  bucket.limit(1000, 50);
  expect(bucket.waitMs(50)).toBe(0);
});

test('an edge waits for its own limit and for that of its node, and says how long it was held', () => {
  let now = 0;
  const paces = new Paces({ bytesPerSecond: 1000, totalBytesPerSecond: 1500 }, () => now);
  const [one, two, elsewhere] = [paces.of(1, 9), paces.of(2, 9), paces.of(1, 8)];
  expect(paces.of(1, 9)).toBe(one);
  one.spend(1000);
  expect(one.waitMs()).toBe(1000);
  two.spend(1100);
  expect(two.waitMs()).toBeCloseTo(1400);
  expect(elsewhere.waitMs()).toBe(0);
  now = 500;
  expect(one.heldMs).toBe(500);
  expect(one.spent).toBe(1000);
  paces.limit({ bytesPerSecond: null, totalBytesPerSecond: null });
  expect([one.waitMs(), two.waitMs()]).toEqual([0, 0]);
  now = 5000;
  expect([one.heldMs, two.heldMs, elsewhere.heldMs]).toEqual([500, 500, 0]);
  expect(one).toBeInstanceOf(EdgePace);
});
