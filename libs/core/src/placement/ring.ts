/**
 * A consistent hash ring in the manner of ketama: every node owns points on a circle, and a shard belongs to the nodes whose points follow its own.
 * Pure and deterministic: the same nodes in any order, on any machine, give the same answers.
 *
 * Why a ring: when a node joins, shards only move to it, about its share of them; when one leaves, only its own shards move. How even the shares are
 * follows from the number of points: with 150 a node, shares differ from the ideal by about 1/sqrt(150) = 8 % (one standard deviation).
 *
 * A point is the hash (key-hash.ts) of `<node>#<index>`. Names, points and hash are never to change: that would move every shard.
 */
import { keyHash } from './key-hash.ts';
import { byName, checkNodes, type Placement, type PlacementNode } from './placement-node.ts';

export const defaultVirtualNodes = 150;

export class HashRing implements Placement {
  /** Names of the nodes, sorted. */
  readonly nodes: readonly string[];
  readonly #hashes: Uint32Array;
  /** For each point the place of its node in `nodes`. */
  readonly #owners: Uint32Array;

  constructor(nodes: readonly PlacementNode[], options: { readonly virtualNodes?: number } = {}) {
    const virtualNodes = options.virtualNodes ?? defaultVirtualNodes;
    if (!Number.isInteger(virtualNodes) || virtualNodes < 1)
      throw new RangeError(`virtualNodes is a whole number of at least 1, not ${virtualNodes}`);
    checkNodes(nodes, 'ring');
    const sorted = nodes.toSorted(byName);
    this.nodes = sorted.map((node) => node.name);
    const points = sorted.flatMap((node, owner) =>
      Array.from({ length: pointsOf(node.weight, virtualNodes) }, (_, index) => ({
        hash: keyHash(`${node.name}#${index}`),
        owner,
      })),
    );
    // Points of two nodes may coincide: then the name decides, since owners are numbered by name.
    points.sort((a, b) => a.hash - b.hash || a.owner - b.owner);
    this.#hashes = Uint32Array.from(points, (point) => point.hash);
    this.#owners = Uint32Array.from(points, (point) => point.owner);
  }

  preference(shardKey: string, count: number = this.nodes.length): string[] {
    const wanted = Math.min(count, this.nodes.length);
    const found: string[] = [];
    const taken = new Set<number>();
    const start = this.#firstAtOrAfter(keyHash(shardKey));
    for (let step = 0; found.length < wanted && step < this.#owners.length; step += 1) {
      const owner = this.#owners[(start + step) % this.#owners.length]!;
      if (taken.has(owner)) continue;
      taken.add(owner);
      found.push(this.nodes[owner]!);
    }
    return found;
  }

  owner(shardKey: string): string | null {
    return this.preference(shardKey, 1)[0] ?? null;
  }

  #firstAtOrAfter(hash: number): number {
    let low = 0;
    let high = this.#hashes.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.#hashes[middle]! < hash) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}

/** At least one: a node on the ring is never without a place in a preference. */
const pointsOf = (weight: number, virtualNodes: number): number =>
  Math.max(1, Math.round(weight * virtualNodes));
