/**
 * The shard map of a collection that not every node holds in full: for each shard its replicas, in order of preference. An entry is changed by change.pg.ts alone, for
 * moves (move.pg.ts, spread.pg.ts); what a node has and does not hold is taken away by cleaner.pg.ts (tend.pg.ts, empty.pg.ts). They keep to what is said here. Pure.
 *
 * Every node has a copy of the whole map (pgquorum.shard_map) and a row of its own part in it (pgquorum.shard_role). What holds, and does not depend on all copies being
 * the same at any time:
 * - An entry only advances by epoch. Epochs of two proposals differ: the proposer's number is in them, and its own node has each of its proposals before any other node has it (change.pg.ts). So of any two
 *   entries all nodes choose the same.
 * - Every change is in its origin's log, and the log is read by every node, hosting or not. A node passes over a change only in a transaction that holds its role `none`
 *   for share. So from the commit of `joining` on a node applies everything, and what it passed over before is behind the positions of its lanes at that commit.
 * - A state leaves a node only when every replica of its entry, old and next, has seen all that it has, each of them under the very same epoch (cleaner.pg.ts). So whatever
 *   proposals won or lost, what was ever committed is held by all replicas of some entry, or still stands where it was written.
 * What could break it, and what is done against it:
 * - A node that was away writes under an old map: it is a write like any other, in its log; the gateway's is refused by epoch where the node knows better, and the
 *   others' roles are none of its business. When it is back it takes the greatest epochs of each peer before it applies anything of it (adoptFrom), and of all of them all the
 *   time (tend.pg.ts).
 * - A node is told that it is a replica and never was filled (it was restored from a backup): it becomes `joining`, is filled, and only then `replica`.
 * - Two changes of one entry at once, or a coordinator that dies between two nodes' commits: the greater epoch wins everywhere. The loser's target becomes `leaving`.
 */
import type { NodeNumber, ShardNumber } from '../versioning/version.ts';

export interface ShardEntry {
  readonly collection: string;
  readonly shard: ShardNumber;
  readonly epoch: number;
  /** Names of nodes, the preferred one first. */
  readonly replicas: readonly string[];
  /** What they are going to be, while the shard moves. */
  readonly next: readonly string[] | null;
}

/** By shard. */
export type ShardMap = readonly ShardEntry[];

export const shardRoles = ['replica', 'joining', 'leaving', 'none'] as const;
export type ShardRole = (typeof shardRoles)[number];

const proposers = 65_536;

/** Of a new collection: beyond what an earlier one of its name can have reached, unless that changed more than once a second for all its life. */
export const firstEpoch = (nowMs: number): number => Math.floor(nowMs / 1000) * proposers;

/** Greater than `epoch`, and unlike that of any other proposer. */
export const nextEpoch = (epoch: number, proposer: NodeNumber): number =>
  (Math.floor(epoch / proposers) + 1) * proposers + proposer;

/** The map of a new collection. `preference` gives all nodes that may hold a shard. */
export function planMap(
  collection: string,
  {
    shards,
    replicationFactor,
    epoch,
  }: { readonly shards: number; readonly replicationFactor: number; readonly epoch: number },
  preference: (shard: ShardNumber) => readonly string[],
): ShardMap {
  return Array.from({ length: shards }, (_, shard) => ({
    collection,
    shard: shard as ShardNumber,
    epoch,
    replicas: preference(shard as ShardNumber).slice(0, replicationFactor),
    next: null,
  }));
}

/** All nodes that hold the shard now or are going to. */
export const holdersOf = ({ replicas, next }: ShardEntry): string[] => [
  ...new Set([...replicas, ...(next ?? [])]),
];

/** The replica in the place of `from` is `to`. Without `from` it is a further one, without `to` there is one less. */
export function replaced(replicas: readonly string[], from: string | null, to: string | null): string[] {
  if (from === null) return to === null ? [...replicas] : [...replicas, to];
  return replicas.flatMap((name) => (name !== from ? [name] : to === null ? [] : [to]));
}

/** Of each shard the entry with the greatest epoch. */
export function newest(maps: readonly ShardMap[]): ShardMap {
  const found = new Map<number, ShardEntry>();
  for (const entry of maps.flat()) {
    const known = found.get(entry.shard);
    if (known === undefined || entry.epoch > known.epoch) found.set(entry.shard, entry);
  }
  return [...found.values()].toSorted((a, b) => a.shard - b.shard);
}

/** What a node becomes that learns of an entry. Only a replica that stays one is one without being filled. */
export function roleAfter(node: string, before: ShardRole, { replicas, next }: ShardEntry): ShardRole {
  if (replicas.includes(node)) return before === 'replica' ? 'replica' : 'joining';
  if (next?.includes(node) === true) return 'joining';
  return before === 'none' ? 'none' : 'leaving';
}
