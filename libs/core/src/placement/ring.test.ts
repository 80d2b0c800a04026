import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import type { PlacementNode } from './placement-node.ts';
import { HashRing } from './ring.ts';

const shardKeys = Array.from({ length: 4000 }, (_, at) => `docs/${at}`);
const ringOf = (nodes: readonly PlacementNode[], virtualNodes?: number) =>
  new HashRing(nodes, virtualNodes === undefined ? {} : { virtualNodes });
const equal = (names: readonly string[]): PlacementNode[] => names.map((name) => ({ name, weight: 1 }));
const names = (count: number) => Array.from({ length: count }, (_, at) => `node-${at + 1}`);
const shares = (ring: HashRing) => {
  const counts = new Map<string, number>(ring.nodes.map((name) => [name, 0]));
  for (const key of shardKeys) counts.set(ring.owner(key)!, counts.get(ring.owner(key)!)! + 1);
  return counts;
};
const nodeSet = fc.uniqueArray(fc.stringMatching(/^[a-z][a-z0-9_-]{0,12}$/), { minLength: 1, maxLength: 8 });
const key = fc.string({ maxLength: 20 });

test('the places of shards are the same for ever', () => {
  const ring = ringOf(equal(['a', 'b', 'c']));
  expect(
    ['docs/0', 'docs/1', 'docs/2', 'images/0', ''].map((shard) => ring.preference(shard).join(' ')),
  ).toEqual(['a b c', 'c a b', 'a c b', 'a b c', 'b a c']);
});

test('a preference names every node once, whatever the order in which the ring was given its nodes', () => {
  fc.assert(
    fc.property(nodeSet, key, fc.infiniteStream(fc.nat()), (set, shard, order) => {
      const shuffled = set.map((name) => ({ name, at: order.next().value! })).sort((x, y) => x.at - y.at);
      const preference = ringOf(equal(set)).preference(shard);
      expect([...preference].sort()).toEqual([...set].sort());
      expect(ringOf(equal(shuffled.map(({ name }) => name))).preference(shard)).toEqual(preference);
    }),
  );
});

test('a shorter preference is the beginning of the longer one', () => {
  fc.assert(
    fc.property(nodeSet, key, fc.nat({ max: 9 }), (set, shard, count) => {
      const ring = ringOf(equal(set));
      expect(ring.preference(shard, count)).toEqual(ring.preference(shard).slice(0, count));
      expect(ring.owner(shard)).toBe(ring.preference(shard)[0]);
    }),
  );
});

test('a node that joins or leaves changes no preference among the others', () => {
  fc.assert(
    fc.property(nodeSet, key, fc.nat(), (set, shard, at) => {
      const gone = set[at % set.length]!;
      const before = ringOf(equal(set)).preference(shard);
      const after = ringOf(equal(set.filter((name) => name !== gone))).preference(shard);
      expect(after).toEqual(before.filter((name) => name !== gone));
    }),
  );
});

describe.each([2, 3, 5, 9])('with %i equal nodes', (count) => {
  test('each owns its share, within a third of it', () => {
    const ideal = shardKeys.length / count;
    for (const share of shares(ringOf(equal(names(count)))).values())
      expect(Math.abs(share - ideal)).toBeLessThan(ideal / 3);
  });

  test('a node that joins takes about its share, and only it gains', () => {
    const before = ringOf(equal(names(count)));
    const after = ringOf(equal(names(count + 1)));
    const moved = shardKeys.filter((shard) => before.owner(shard) !== after.owner(shard));
    for (const shard of moved) expect(after.owner(shard)).toBe(`node-${count + 1}`);
    const least = shardKeys.length / (count + 1);
    expect(Math.abs(moved.length - least)).toBeLessThan(least / 3);
  });

  test('of the first three replicas no more change than the joining node takes', () => {
    const before = ringOf(equal(names(count)));
    const after = ringOf(equal(names(count + 1)));
    for (const shard of shardKeys.slice(0, 500)) {
      const [old, now] = [before.preference(shard, 3), after.preference(shard, 3)];
      expect(now.filter((name) => !old.includes(name)).every((name) => name === `node-${count + 1}`)).toBe(
        true,
      );
      expect(old.filter((name) => !now.includes(name)).length).toBeLessThanOrEqual(1);
    }
  });
});

test('weights share out in proportion', () => {
  const counts = shares(
    ringOf([
      { name: 'small', weight: 1 },
      { name: 'big', weight: 3 },
      { name: 'tiny', weight: 0.5 },
    ]),
  );
  const unit = shardKeys.length / 4.5;
  expect(Math.abs(counts.get('big')! - 3 * unit)).toBeLessThan(unit / 2);
  expect(Math.abs(counts.get('small')! - unit)).toBeLessThan(unit / 2);
  expect(Math.abs(counts.get('tiny')! - unit / 2)).toBeLessThan(unit / 4);
});

test('a weight that grows only moves shards to its node', () => {
  const before = ringOf(equal(names(4)));
  const after = ringOf([...equal(names(3)), { name: 'node-4', weight: 2 }]);
  for (const shard of shardKeys)
    if (before.owner(shard) !== after.owner(shard)) expect(after.owner(shard)).toBe('node-4');
});

test('more points make shares more even', () => {
  const spread = (virtualNodes: number) => {
    const counts = [...shares(ringOf(equal(names(5)), virtualNodes)).values()];
    return Math.max(...counts) - Math.min(...counts);
  };
  expect(spread(1000)).toBeLessThan(spread(3));
});

test('an empty ring prefers nobody, and a node of little weight still has a place', () => {
  expect(ringOf([]).preference('docs/0')).toEqual([]);
  expect(ringOf([]).owner('docs/0')).toBeNull();
  expect(
    ringOf([
      { name: 'a', weight: 0.0001 },
      { name: 'b', weight: 1 },
    ]).preference('docs/0'),
  ).toHaveLength(2);
});

test.each([
  [[{ name: 'a', weight: 0 }], /weight of a/],
  [[{ name: 'a', weight: Number.NaN }], /weight of a/],
  [
    [
      { name: 'a', weight: 1 },
      { name: 'a', weight: 2 },
    ],
    /a is on the ring twice/,
  ],
])('a ring that makes no sense is refused', (nodes, message) => {
  expect(() => ringOf(nodes)).toThrow(message);
});
