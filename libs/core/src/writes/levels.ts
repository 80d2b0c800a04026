/**
 * When a write or a read has enough replicas. A shard has one set of replicas, and while that changes two: the old one and the new one, of which each must have a majority.
 *
 * Two sets that follow one another differ by one node (a move, a node that joins or leaves), so majorities of both always meet; every node that is counted
 * has refused, in its own transaction, who believes in other sets than it does (levels-check.pg.ts). Pure.
 */
/** The weakest first. */
export const levels = ['one', 'quorum', 'all'] as const;
export type Consistency = (typeof levels)[number];

export type ReplicaSets = readonly (readonly string[])[];

const majorityOf = (set: readonly string[]): number => Math.floor(set.length / 2) + 1;

/** Do these nodes make up the level? */
export function isMet(level: Consistency, sets: ReplicaSets, nodes: ReadonlySet<string>): boolean {
  if (level === 'one') return nodes.size > 0;
  return sets.every((set) => {
    const had = set.filter((name) => nodes.has(name)).length;
    return had >= (level === 'all' ? set.length : majorityOf(set));
  });
}

/** How many replicas are needed, as a receipt tells it: of two sets the larger number. */
export const requiredOf = (level: Consistency, sets: ReplicaSets): number =>
  level === 'one' ? 1 : Math.max(...sets.map((set) => (level === 'all' ? set.length : majorityOf(set))));

export const everyReplica = (sets: ReplicaSets): string[] => [...new Set(sets.flat())];

/** The strongest level that these nodes make up; null when there are none. */
export const reachedBy = (sets: ReplicaSets, nodes: ReadonlySet<string>): Consistency | null =>
  levels.findLast((level) => isMet(level, sets, nodes)) ?? null;

export const weakest = (reached: readonly Consistency[]): Consistency | undefined =>
  levels.find((level) => reached.includes(level));
