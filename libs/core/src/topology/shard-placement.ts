/** The nodes of a shard in order of preference: the first live one is its primary. Every process computes the same order from the same nodes. Pure. */
import type { HashRing } from '../placement/ring.ts';
import type { ShardNumber } from '../versioning/version.ts';

const keptMax = 100_000;

export class ShardPlacement {
  readonly #ring: HashRing;
  readonly #known = new Map<string, readonly string[]>();

  constructor(ring: HashRing) {
    this.#ring = ring;
  }

  /** Names of nodes, the preferred one first. */
  nodesOf(collection: string, shard: ShardNumber): readonly string[] {
    const key = `${collection}/${shard}`;
    let names = this.#known.get(key);
    if (names === undefined) {
      if (this.#known.size >= keptMax) this.#known.clear();
      names = this.#ring.preference(key);
      this.#known.set(key, names);
    }
    return names;
  }
}
