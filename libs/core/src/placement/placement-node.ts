/** What a placement knows of a node. The checks are the same for all kinds of placement. Pure. */

export interface PlacementNode {
  readonly name: string;
  /** Share of shards in relation to other nodes. */
  readonly weight: number;
}

/** Finds an order of nodes for each key. The same nodes give the same answers on any machine, and for ever: another answer would move shards. */
export interface Placement {
  readonly nodes: readonly string[];
  /** The nodes for a shard (or any key), the first the most preferred, each once; at most `count`. */
  preference(shardKey: string, count?: number): string[];
  /** The most preferred node, or null when there is none. */
  owner(shardKey: string): string | null;
}

/** Throws for what makes no sense; `what` names the placement in the message. */
export function checkNodes(nodes: readonly PlacementNode[], what: string): void {
  const names = new Set<string>();
  for (const { name, weight } of nodes) {
    if (!(weight > 0 && Number.isFinite(weight)))
      throw new RangeError(`the weight of ${name} is not a positive number`);
    if (names.has(name)) throw new RangeError(`the node ${name} is on the ${what} twice`);
    names.add(name);
  }
}

export const byName = (a: PlacementNode, b: PlacementNode): number =>
  a.name < b.name ? -1 : a.name > b.name ? 1 : 0;
