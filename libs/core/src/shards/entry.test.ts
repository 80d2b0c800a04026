import { expect, test } from '@jest/globals';
import fc from 'fast-check';
import type { NodeNumber, ShardNumber } from '../versioning/version.ts';
import {
  firstEpoch,
  newest,
  nextEpoch,
  planMap,
  replaced,
  roleAfter,
  shardRoles,
  type ShardEntry,
} from './entry.ts';

const entry = (more: Partial<ShardEntry> = {}): ShardEntry => ({
  collection: 'docs',
  shard: 0 as ShardNumber,
  epoch: 65_536,
  replicas: ['a', 'b'],
  next: null,
  ...more,
});

test('an epoch is greater than the one before it, and no two proposers make the same', () => {
  const number = fc.integer({ min: 1, max: 32_767 }) as fc.Arbitrary<NodeNumber>;
  fc.assert(
    fc.property(fc.integer({ min: 0, max: 2 ** 50 }), number, number, (epoch, one, other) => {
      expect(nextEpoch(epoch, one)).toBeGreaterThan(epoch);
      expect(nextEpoch(epoch, one) === nextEpoch(epoch, other)).toBe(one === other);
    }),
  );
});

test('a collection that is made anew begins beyond what an earlier one of its name has reached', () => {
  let epoch = firstEpoch(1_700_000_000_000);
  for (let change = 0; change < 100; change += 1) epoch = nextEpoch(epoch, 32_767 as NodeNumber);
  expect(firstEpoch(1_700_000_101_000)).toBeGreaterThan(epoch);
});

test('a new map gives each shard the first nodes of its preference', () => {
  const map = planMap('docs', { shards: 2, replicationFactor: 2, epoch: 7 }, (shard) =>
    shard === 0 ? ['a', 'b', 'c'] : ['c', 'a', 'b'],
  );
  expect(map.map(({ replicas }) => replicas)).toEqual([
    ['a', 'b'],
    ['c', 'a'],
  ]);
});

test('of entries of one shard the greatest epoch counts, in whatever order they come', () => {
  const [old, now] = [entry(), entry({ epoch: 131_072, replicas: ['c'] })];
  expect(newest([[old], [now]])).toEqual([now]);
  expect(newest([[now], [old]])).toEqual([now]);
});

test('only a replica stays one without being filled', () => {
  for (const before of shardRoles)
    expect(roleAfter('a', before, entry())).toBe(before === 'replica' ? 'replica' : 'joining');
});

test('who is to be a replica joins, and who was one leaves', () => {
  const moving = entry({ next: replaced(['a', 'b'], 'a', 'c') });
  expect(moving.next).toEqual(['c', 'b']);
  expect(roleAfter('c', 'none', moving)).toBe('joining');
  expect(roleAfter('a', 'replica', moving)).toBe('replica');
  const moved = entry({ replicas: ['c', 'b'] });
  expect(roleAfter('a', 'replica', moved)).toBe('leaving');
  expect(roleAfter('c', 'joining', entry())).toBe('leaving');
  expect(roleAfter('d', 'none', moved)).toBe('none');
});
