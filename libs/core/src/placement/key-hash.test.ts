/** The golden values never change, or every key of every user moves. */
import { expect, test } from '@jest/globals';
import fc from 'fast-check';
import { goldenKeyHashes } from './golden-key-hashes.testing.ts';
import { keyHash } from './key-hash.ts';
import { shardOf } from './partitioning.ts';

test.each(goldenKeyHashes)('the hash of %j is %i', (text, hash) => {
  expect(keyHash(text)).toBe(hash);
});

test('shards of a key', () => {
  expect(['', 'a', 'key-1', '42'].map((text) => shardOf(text, { shards: 64 }))).toEqual([2, 18, 20, 52]);
});

test('every key has a shard within range, and one shard takes all', () => {
  fc.assert(
    fc.property(fc.string({ unit: 'binary' }), fc.integer({ min: 1, max: 4096 }), (text, shards) => {
      expect(shardOf(text, { shards })).toBeLessThan(shards);
      expect(shardOf(text, { shards: 1 })).toBe(0);
    }),
  );
});

test('keys spread over the shards', () => {
  const counts = new Array<number>(64).fill(0);
  for (let at = 0; at < 64_000; at += 1) counts[shardOf(`key-${at}`, { shards: 64 })]! += 1;
  // 1000 each with a standard deviation of 32.
  expect(Math.min(...counts)).toBeGreaterThan(850);
  expect(Math.max(...counts)).toBeLessThan(1150);
});
