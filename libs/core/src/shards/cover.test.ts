import { expect, test } from '@jest/globals';
import fc from 'fast-check';
import type { ShardNumber } from '../versioning/version.ts';
import { coverShards } from './cover.ts';
import type { ShardMap } from './entry.ts';

const mapOf = (replicas: readonly (readonly string[])[]): ShardMap =>
  replicas.map((names, shard) => ({
    collection: 'docs',
    shard: shard as ShardNumber,
    epoch: 1,
    replicas: names,
    next: null,
  }));

test('the fewest nodes are asked, each for shards that no other one is asked for', () => {
  const { nodes, missing } = coverShards(
    mapOf([
      ['a', 'b'],
      ['b', 'c'],
      ['c', 'd'],
      ['d', 'a'],
    ]),
    ['a', 'b', 'c', 'd'],
  );
  expect(Object.fromEntries(nodes)).toEqual({ a: [0, 3], c: [1, 2] });
  expect(missing).toEqual([]);
});

test('of equally small sets the one with the first nodes of the order is taken', () => {
  const map = mapOf([
    ['a', 'b'],
    ['a', 'b'],
  ]);
  expect([...coverShards(map, ['b', 'a']).nodes.keys()]).toEqual(['b']);
  expect([...coverShards(map, ['a', 'b']).nodes.keys()]).toEqual(['a']);
});

test('every shard that has a replica in the order is asked for once, of a replica, and the others are told', () => {
  const names = ['a', 'b', 'c', 'd', 'e', 'f', 'g', 'h', 'i', 'j', 'k', 'l'];
  const replicas = fc.array(fc.uniqueArray(fc.constantFrom(...names), { minLength: 1, maxLength: 3 }), {
    maxLength: 30,
  });
  fc.assert(
    fc.property(replicas, fc.subarray(names), (lists, order) => {
      const map = mapOf(lists);
      const { nodes, missing } = coverShards(map, order);
      const asked = [...nodes].flatMap(([name, shards]) => shards.map((shard) => ({ name, shard })));
      for (const { name, shard } of asked) {
        expect(order).toContain(name);
        expect(map[shard]!.replicas).toContain(name);
      }
      const all = [...asked.map(({ shard }) => shard), ...missing].toSorted((a, b) => a - b);
      expect(all).toEqual(map.map(({ shard }) => shard));
      for (const shard of missing)
        expect(map[shard]!.replicas.some((name) => order.includes(name))).toBe(false);
    }),
  );
});
