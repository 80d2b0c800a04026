/**
 * Which shards move when nodes come and go, and no others: a node that came gets those that placement gives it now, one that goes gives its own to the next in each shard's
 * preference. What operators have moved elsewhere stays there. Pure.
 */
import type { ShardChange } from './move-request.ts';
import { replaced, type ShardEntry, type ShardMap } from './entry.ts';

/** Names of the nodes that may hold a shard, the preferred one first. */
export type Preference = (entry: ShardEntry) => readonly string[];

export interface SpreadCollection {
  readonly map: ShardMap;
  readonly replicationFactor: number;
}

const changeOf = (
  { collection, shard }: ShardEntry,
  from: string | null,
  to: string | null,
): ShardChange => ({
  collection,
  shard,
  from,
  to,
});

/** For a node that came. It takes the place of a replica that placement does not name any more, or one that is missing since there were too few nodes. */
export function movesTo(
  node: string,
  { map, replicationFactor }: SpreadCollection,
  preference: Preference,
): ShardChange[] {
  return map.flatMap((entry) => {
    const { replicas, next } = entry;
    // Begun already.
    if (next?.includes(node) === true && !replicas.includes(node))
      return [changeOf(entry, replicas.find((name) => !next.includes(name)) ?? null, node)];
    const wanted = preference(entry).slice(0, replicationFactor);
    if (!wanted.includes(node) || replicas.includes(node)) return [];
    if (replicas.length < replicationFactor) return [changeOf(entry, null, node)];
    const from = replicas.findLast((name) => !wanted.includes(name));
    return from === undefined ? [] : [changeOf(entry, from, node)];
  });
}

/** For a node that goes: `preference` does not name it. With too few others a shard has fewer replicas from then on. */
export function movesFrom(
  node: string,
  { map }: Pick<SpreadCollection, 'map'>,
  preference: Preference,
): ShardChange[] {
  return map.flatMap((entry) => {
    const { replicas, next } = entry;
    if (!replicas.includes(node)) return [];
    if (next !== null && !next.includes(node))
      return [changeOf(entry, node, next.find((name) => !replicas.includes(name)) ?? null)];
    const to = preference(entry).find((name) => !entry.replicas.includes(name)) ?? null;
    return [changeOf(entry, node, to)];
  });
}

/** Entries that move in another way than `changes` say, or to the node though nothing of that is to be done. */
export const inTheWay = (map: ShardMap, node: string, changes: readonly ShardChange[]): ShardEntry[] =>
  map.filter((entry) => {
    if (entry.next === null) return false;
    const change = changes.find(
      ({ collection, shard }) => collection === entry.collection && shard === entry.shard,
    );
    return change === undefined
      ? entry.next.includes(node) && !entry.replicas.includes(node)
      : entry.next.join() !== replaced(entry.replicas, change.from, change.to).join();
  });
