/** What all kinds of placement promise. What only the ring promises is in ring.test.ts. */
import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { jump } from './jump-hash.ts';
import { makePlacement, placementKinds, type PlacementKind } from './kind.ts';
import type { PlacementNode } from './placement-node.ts';

const shardKeys = Array.from({ length: 2000 }, (_, at) => `docs/${at}`);
const equal = (names: readonly string[]): PlacementNode[] => names.map((name) => ({ name, weight: 1 }));
const names = (count: number) => Array.from({ length: count }, (_, at) => `node-${at + 1}`);
const place = (kind: PlacementKind, nodes: readonly PlacementNode[]) =>
  makePlacement(nodes, { kind, virtualNodes: 150 });
const nodeSet = fc.uniqueArray(fc.stringMatching(/^[a-z][a-z0-9_-]{0,12}$/), { minLength: 1, maxLength: 8 });
const shardKey = fc.string({ maxLength: 20 });

describe.each(placementKinds)('%s', (kind) => {
  test('names every node once, and shorter answers are the beginning of longer ones', () => {
    fc.assert(
      fc.property(nodeSet, shardKey, fc.nat({ max: 9 }), (set, key, count) => {
        const placement = place(kind, equal(set));
        const preference = placement.preference(key);
        expect(preference.toSorted()).toEqual(set.toSorted());
        expect(placement.preference(key, count)).toEqual(preference.slice(0, count));
        expect(placement.owner(key)).toBe(preference[0]);
      }),
    );
  });

  test.each([1, 2, 3, 5, 9])(
    'a node that joins %i others takes about its share, and only it gains',
    (count) => {
      const before = place(kind, equal(names(count)));
      const after = place(kind, equal(names(count + 1)));
      const moved = shardKeys.filter((key) => before.owner(key) !== after.owner(key));
      for (const key of moved) expect(after.owner(key)).toBe(`node-${count + 1}`);
      const least = shardKeys.length / (count + 1);
      expect(Math.abs(moved.length - least)).toBeLessThan(least / 3);
    },
  );

  test.each([2, 3, 5, 9])('each of %i equal nodes owns its share, within a third of it', (count) => {
    const placement = place(kind, equal(names(count)));
    const ideal = shardKeys.length / count;
    for (const name of placement.nodes) {
      const share = shardKeys.filter((key) => placement.owner(key) === name).length;
      expect(Math.abs(share - ideal)).toBeLessThan(ideal / 3);
    }
  });

  test('weights share out in proportion', () => {
    const weights = { small: 1, big: 3, tiny: 0.5 };
    const placement = place(
      kind,
      Object.entries(weights).map(([name, weight]) => ({ name, weight })),
    );
    for (const [name, weight] of Object.entries(weights)) {
      const share = shardKeys.filter((key) => placement.owner(key) === name).length;
      const ideal = (shardKeys.length * weight) / 4.5;
      expect(Math.abs(share - ideal)).toBeLessThan(ideal / 3);
    }
  });

  test('nobody is preferred among no nodes, and a node of little weight still has a place', () => {
    expect(place(kind, []).preference('docs/0')).toEqual([]);
    expect(place(kind, []).owner('docs/0')).toBeNull();
    const nodes = [
      { name: 'a', weight: 0.0001 },
      { name: 'b', weight: 1 },
    ];
    expect(place(kind, nodes).preference('docs/0')).toHaveLength(2);
  });

  test.each([
    [[{ name: 'a', weight: 0 }], /weight of a/],
    [[{ name: 'a', weight: Number.NaN }], /weight of a/],
    [equal(['a', 'a']), /a is on the (ring|list) twice/],
  ])('nodes that make no sense are refused', (nodes, message) => {
    expect(() => place(kind, nodes)).toThrow(message);
  });
});

describe('rendezvous', () => {
  test('neither the order of the nodes nor one that leaves changes the order of the others', () => {
    fc.assert(
      fc.property(nodeSet, shardKey, fc.nat(), (set, key, at) => {
        const gone = set[at % set.length]!;
        const before = place('rendezvous', equal(set)).preference(key);
        const reversed = place('rendezvous', equal(set.toReversed())).preference(key);
        const after = place('rendezvous', equal(set.filter((name) => name !== gone))).preference(key);
        expect(reversed).toEqual(before);
        expect(after).toEqual(before.filter((name) => name !== gone));
      }),
    );
  });

  test('a weight that grows only moves shards to its node', () => {
    const before = place('rendezvous', equal(names(4)));
    const after = place('rendezvous', [...equal(names(3)), { name: 'node-4', weight: 2 }]);
    for (const key of shardKeys)
      if (before.owner(key) !== after.owner(key)) expect(after.owner(key)).toBe('node-4');
  });
});

describe('jump', () => {
  // Computed by the paper's code in C.
  test.each([
    [0n, 1, 0],
    [10_863_919_174_838_991n, 11, 6],
    [1_000n, 10, 9],
    [2n ** 64n - 1n, 1024, 313],
  ])('of %s over %i buckets is %i', (key, buckets, expected) => {
    expect(jump(key, buckets)).toBe(expected);
  });

  test('a bucket that is added at the end only takes', () => {
    fc.assert(
      fc.property(
        fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }),
        fc.integer({ min: 1, max: 500 }),
        (key, count) => {
          const [before, after] = [jump(key, count), jump(key, count + 1)];
          expect(before).toBeLessThan(count);
          expect([before, count]).toContain(after);
        },
      ),
    );
  });
});

test('the places of shards are the same for ever', () => {
  const shards = ['docs/0', 'docs/1', 'docs/2', 'images/0', ''];
  expect(
    placementKinds.map((kind) => {
      const placement = place(kind, equal(['a', 'b', 'c']));
      return [kind, ...shards.map((shard) => placement.preference(shard).join(''))].join(' ');
    }),
  ).toEqual(['ketama abc cab acb abc bac', 'jump abc cba cba acb abc', 'rendezvous bac bac abc cab cba']);
});
