/** The smallest set of nodes that together hold all shards, for a search that has to ask each shard once. Pure. */
import type { ShardNumber } from '../versioning/version.ts';
import type { ShardMap } from './entry.ts';

export interface Cover {
  /** Node -> the shards that it is asked for; each shard is asked of one node. */
  readonly nodes: ReadonlyMap<string, readonly ShardNumber[]>;
  /** Shards of which no replica is in the list. */
  readonly missing: readonly ShardNumber[];
}

/** With so many nodes all sets are tried; beyond, the node that adds most shards is taken first. */
const exactMax = 10;

/** `order` are the nodes that may be asked, those to be preferred first. */
export function coverShards(map: ShardMap, order: readonly string[]): Cover {
  const usable = new Set(order);
  const held = map.map((entry) => ({
    shard: entry.shard,
    by: entry.replicas.filter((name) => usable.has(name)),
  }));
  const missing = held.filter(({ by }) => by.length === 0).map(({ shard }) => shard);
  const wanted = held.filter(({ by }) => by.length > 0);
  const useful = order.filter((name) => wanted.some(({ by }) => by.includes(name)));
  const chosen = new Set(useful.length <= exactMax ? smallest(wanted, useful) : greedy(wanted, useful));
  const nodes = new Map<string, ShardNumber[]>();
  for (const { shard, by } of wanted) {
    // The primary where it is asked anyway: it knows of the latest writes first.
    const node = by.find((name) => chosen.has(name))!;
    nodes.set(node, [...(nodes.get(node) ?? []), shard]);
  }
  return { nodes, missing };
}

interface Held {
  readonly shard: ShardNumber;
  readonly by: readonly string[];
}

/** Of the smallest sets the first by the order of the nodes. */
function smallest(wanted: readonly Held[], nodes: readonly string[]): readonly string[] {
  for (let size = 1; size <= nodes.length; size += 1)
    for (const set of subsets(nodes, size))
      if (wanted.every(({ by }) => by.some((name) => set.includes(name)))) return set;
  return nodes;
}

function* subsets(of: readonly string[], size: number): Generator<readonly string[]> {
  if (size === 0) {
    yield [];
    return;
  }
  for (let at = 0; at + size <= of.length; at += 1)
    for (const rest of subsets(of.slice(at + 1), size - 1)) yield [of[at]!, ...rest];
}

function greedy(wanted: readonly Held[], nodes: readonly string[]): readonly string[] {
  const chosen: string[] = [];
  let left = wanted;
  while (left.length > 0) {
    const gain = (name: string): number => left.filter(({ by }) => by.includes(name)).length;
    const best = nodes.reduce((one, other) => (gain(other) > gain(one) ? other : one));
    chosen.push(best);
    left = left.filter(({ by }) => !by.includes(best));
  }
  return chosen;
}
