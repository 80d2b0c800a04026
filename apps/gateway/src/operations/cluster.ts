/** The state of nodes and edges. */
import type { CollectionDirectory } from '#core/collections/directory.pg.ts';
import { deadlineIn } from '#core/postgres/session.pg.ts';
import { replicaStatuses, type ReplicaView } from '#core/topology/replica-status.ts';
import type { Edge, Health } from '#core/topology/status.ts';
import type { NodeView, StatusBoard } from '#core/topology/status.pg.ts';
import type { Nodes } from '#core/topology/nodes.pg.ts';
import type { ShardPlacement } from '#core/topology/shard-placement.ts';
import type { ShardNumber } from '#core/versioning/version.ts';
import { defaultTimeoutMs } from '#core/writes/consistency.ts';

export interface LagView {
  /** The greatest lag of all edges; null when there is none that is measured. */
  readonly maxMs: number | null;
  readonly edges: readonly Edge[];
}

export class ClusterOperations {
  readonly #board: StatusBoard;
  readonly #nodes: Nodes;
  readonly #placement: ShardPlacement;
  readonly #directory: CollectionDirectory;

  constructor(parts: {
    board: StatusBoard;
    nodes: Nodes;
    placement: ShardPlacement;
    directory: CollectionDirectory;
  }) {
    this.#board = parts.board;
    this.#nodes = parts.nodes;
    this.#placement = parts.placement;
    this.#directory = parts.directory;
  }

  async nodes(): Promise<(NodeView & { primaryOf: number | null })[]> {
    const status = await this.#board.read();
    const primaries = await this.#countPrimaries();
    return this.#board
      .nodeViews(status)
      .map((view) => ({ ...view, primaryOf: primaries === null ? null : (primaries.get(view.id) ?? 0) }));
  }

  async health(): Promise<Health> {
    return (await this.#board.read()).health;
  }

  async lag(): Promise<LagView> {
    const { edges } = await this.#board.read();
    const measured = edges.flatMap((edge) => edge.ms ?? []);
    return { maxMs: measured.length === 0 ? null : Math.max(...measured), edges };
  }

  async replicas(): Promise<ReplicaView[]> {
    const { reports, edges, readAtMs } = await this.#board.read();
    return replicaStatuses(reports, edges, readAtMs);
  }

  /** Null when no node can be asked for the collections. */
  async #countPrimaries(): Promise<Map<string, number> | null> {
    if (this.#nodes.live.length === 0) return null;
    const counts = new Map<string, number>();
    for (const collection of await this.#directory.list(deadlineIn(defaultTimeoutMs))) {
      for (let shard = 0; shard < collection.table.shards; shard++) {
        const primary = this.#nodes.inOrder(this.#placement.replicasOf(collection, shard as ShardNumber))[0]
          ?.name;
        if (primary !== undefined) counts.set(primary, (counts.get(primary) ?? 0) + 1);
      }
    }
    return counts;
  }
}
