import { expect, test } from '@jest/globals';
import fc from 'fast-check';
import { replicasOf } from './replicas.ts';

const zones = ['eu', 'us', 'ap'];
const preference = fc.uniqueArray(fc.integer({ min: 0, max: 20 }), { minLength: 1, maxLength: 9 });
/** The zone is in the name. */
const zoneOf = (node: string) => node.split('-')[0]!;

test('the first stays the first, each zone is used before any is used twice, and the most preferred of a zone comes first', () => {
  fc.assert(
    fc.property(preference, fc.integer({ min: 1, max: 9 }), (numbers, count) => {
      const nodes = numbers.map((number) => `${zones[number % zones.length]}-${number}`);
      const chosen = replicasOf(nodes, { count, zoneOf });
      expect(chosen).toHaveLength(Math.min(count, nodes.length));
      expect(chosen[0]).toBe(nodes[0]);
      expect(new Set(chosen).size).toBe(chosen.length);
      for (const zone of zones) {
        const here = nodes.filter((node) => zoneOf(node) === zone);
        const used = chosen.filter((node) => zoneOf(node) === zone);
        expect(used).toEqual(here.slice(0, used.length));
        const most = Math.max(
          ...zones.map((other) => chosen.filter((node) => zoneOf(node) === other).length),
        );
        // A zone with fewer replicas than another has no more nodes to give.
        if (used.length + 1 < most) expect(used).toHaveLength(here.length);
      }
    }),
  );
});

test('a shorter choice is the beginning of a longer one', () => {
  fc.assert(
    fc.property(preference, fc.nat({ max: 9 }), (numbers, count) => {
      const nodes = numbers.map((number) => `${zones[number % zones.length]}-${number}`);
      const all = replicasOf(nodes, { count: nodes.length, zoneOf });
      expect(replicasOf(nodes, { count, zoneOf })).toEqual(all.slice(0, count));
    }),
  );
});
