/** The nodes of a shard in order of preference: the first live one is its primary. Every process computes the same order from the same nodes. Pure. */
import type { ShardMap } from '../shards/entry.ts';
import { makePlacement, type PlacementKind } from '../placement/kind.ts';
import type { Placement } from '../placement/placement-node.ts';
import { replicasOf } from '../placement/replicas.ts';
import type { NodeNumber, ShardNumber } from '../versioning/version.ts';

const keptMax = 100_000;

export interface PlacedNode {
  readonly name: string;
  readonly number: NodeNumber;
  readonly address: { readonly zone: string; readonly weight: number };
}

export interface PlacedCollection {
  readonly name: string;
  readonly definition: { readonly replicationFactor?: number };
  readonly map?: ShardMap;
}

export interface PlacementSettings {
  readonly placement: PlacementKind;
  readonly virtualNodes: number;
}

export class ShardPlacement {
  readonly #settings: PlacementSettings;
  #placement!: Placement;
  #zones!: ReadonlyMap<string, string>;
  readonly #known = new Map<string, readonly string[]>();

  constructor(nodes: readonly PlacedNode[], settings: PlacementSettings) {
    this.#settings = settings;
    this.place(nodes);
  }

  /** From now on these are the nodes. */
  place(nodes: readonly PlacedNode[]): void {
    const settings = this.#settings;
    // Numbers are given in the order in which nodes join.
    const joined = nodes.toSorted((a, b) => a.number - b.number);
    this.#placement = makePlacement(
      joined.map(({ name, address }) => ({ name, weight: address.weight })),
      { kind: settings.placement, virtualNodes: settings.virtualNodes },
    );
    this.#known.clear();
    this.#zones = new Map(nodes.map(({ name, address }) => [name, address.zone]));
  }

  /** Names of the nodes that hold a shard, the preferred one first. */
  replicasOf({ name, definition, map }: PlacedCollection, shard: ShardNumber): readonly string[] {
    return definition.replicationFactor === undefined
      ? this.nodesOf(name, shard)
      : (map?.find((entry) => entry.shard === shard)?.replicas ?? []);
  }

  /** Names of all nodes, the preferred one first, then so that each beginning of the list is spread over zones. */
  nodesOf(collection: string, shard: ShardNumber): readonly string[] {
    const key = `${collection}/${shard}`;
    let names = this.#known.get(key);
    if (names === undefined) {
      if (this.#known.size >= keptMax) this.#known.clear();
      const preference = this.#placement.preference(key);
      names = replicasOf(preference, {
        count: preference.length,
        zoneOf: (node) => this.#zones.get(node)!,
      });
      this.#known.set(key, names);
    }
    return names;
  }
}
