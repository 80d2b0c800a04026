import { describe, expect, test } from '@jest/globals';
import { placementKinds } from '../placement/kind.ts';
import { ShardPlacement } from '../topology/shard-placement.ts';
import type { NodeNumber } from '../versioning/version.ts';
import { planMap, replaced, type ShardMap } from './entry.ts';
import type { ShardChange } from './move-request.ts';
import { inTheWay, movesFrom, movesTo } from './spread.ts';

const nodesOf = (count: number, zones: number) =>
  Array.from({ length: count }, (_, at) => ({
    name: `n${at + 1}`,
    number: (at + 1) as NodeNumber,
    address: { zone: `z${at % zones}`, weight: 1 },
  }));

const after = (map: ShardMap, changes: readonly ShardChange[]): ShardMap =>
  map.map((entry) => {
    const change = changes.find(({ shard }) => shard === entry.shard);
    return change === undefined
      ? entry
      : { ...entry, replicas: replaced(entry.replicas, change.from, change.to) };
  });

const sets = (map: ShardMap) => map.map(({ replicas }) => replicas.toSorted());

describe.each(placementKinds)('%s', (placement) => {
  const settings = { placement, virtualNodes: 150 };
  const place = (count: number, zones: number) => {
    const placed = new ShardPlacement(nodesOf(count, zones), settings);
    return ({ shard }: Pick<ShardMap[number], 'shard'>) => placed.nodesOf('docs', shard);
  };
  const mapOf = (count: number, given: { zones: number; shards: number; factor: number }) => {
    const preference = place(count, given.zones);
    return planMap('docs', { shards: given.shards, replicationFactor: given.factor, epoch: 1 }, (shard) =>
      preference({ shard }),
    );
  };

  test.each([2, 5])('a node that joins %i others takes its share, and nothing else moves', (count) => {
    const factor = 2;
    const shards = 1024;
    const before = mapOf(count, { zones: 1, shards, factor });
    const moves = movesTo(`n${count + 1}`, { map: before, replicationFactor: factor }, place(count + 1, 1));
    const now = after(before, moves);
    const wanted = sets(mapOf(count + 1, { zones: 1, shards, factor }));
    // What placement gives to the new one, reached by moving to it alone; of the others placement may change its mind with jump hashing.
    const name = `n${count + 1}`;
    const has = (all: readonly (readonly string[])[]) => all.map((replicas) => replicas.includes(name));
    expect(has(sets(now))).toEqual(has(wanted));
    if (placement !== 'jump') expect(sets(now)).toEqual(wanted);
    const least = (shards * factor) / (count + 1);
    expect(Math.abs(moves.length - least)).toBeLessThan(least / 3);
  });

  test.each([1, 2, 3])(
    'no shard loses a replica or has one twice, with %i zones, and who goes is nowhere',
    (zones) => {
      for (const count of [1, 2, 4])
        for (const factor of [1, 2, 3]) {
          const before = mapOf(count, { zones, shards: 32, factor });
          const name = `n${count + 1}`;
          const come = movesTo(name, { map: before, replicationFactor: factor }, place(count + 1, zones));
          const grown = after(before, come);
          for (const { replicas } of grown) {
            expect(new Set(replicas).size).toBe(replicas.length);
            expect(replicas.length).toBeLessThanOrEqual(factor);
          }
          expect(come.every(({ to }) => to === name)).toBe(true);
          const gone = movesFrom(name, { map: grown }, place(count, zones));
          for (const [at, { replicas }] of after(grown, gone).entries()) {
            expect(replicas).not.toContain(name);
            expect(new Set(replicas).size).toBe(replicas.length);
            expect(replicas.length).toBe(Math.min(grown[at]!.replicas.length, count));
          }
          // Only the shards that it had were touched.
          expect(gone).toHaveLength(come.length);
        }
    },
  );
});

test('what was begun goes on, and what others began is in the way', () => {
  const [entry] = planMap('docs', { shards: 1, replicationFactor: 2, epoch: 1 }, () => ['a', 'b']);
  const moving = (next: string[]): ShardMap => [{ ...entry!, next }];
  const goes = { collection: 'docs', shard: 0, from: 'a', to: 'c' };
  expect(movesFrom('a', { map: moving(['c', 'b']) }, () => ['d'])).toEqual([goes]);
  expect(movesTo('c', { map: moving(['c', 'b']), replicationFactor: 2 }, () => ['a', 'b'])).toEqual([goes]);
  expect(inTheWay(moving(['c', 'b']), 'a', [goes])).toEqual([]);
  expect(inTheWay(moving(['a', 'd']), 'a', [goes])).toHaveLength(1);
  // Nothing is to be done about the node, and somebody gives it the shard.
  expect(inTheWay(moving(['c', 'b']), 'c', [])).toHaveLength(1);
  expect(inTheWay(moving(['d', 'b']), 'c', [])).toEqual([]);
});
