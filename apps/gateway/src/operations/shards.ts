/** Where the shards of a collection are. */
import { z } from 'zod';
import type { CollectionRow } from '#core/collections/catalog.pg.ts';
import type { CollectionDirectory } from '#core/collections/directory.pg.ts';
import { PgquorumError } from '#core/errors/error.ts';
import type { JobView } from '#core/jobs/job.ts';
import { deadlineIn } from '#core/postgres/session.pg.ts';
import { shardOf } from '#core/placement/partitioning.ts';
import { invalid, parseWith } from '#core/requests/fields.ts';
import { moveJob, type MoveArguments } from '#core/shards/move-request.ts';
import type { Nodes } from '#core/topology/nodes.pg.ts';
import type { ShardPlacement } from '#core/topology/shard-placement.ts';
import type { ShardNumber } from '#core/versioning/version.ts';
import { idChecks } from '#core/writes/attached.ts';
import { defaultTimeoutMs } from '#core/writes/consistency.ts';
import { checkKey } from '#core/writes/item.ts';
import type { JobOperations } from './jobs.ts';

export interface ShardView {
  readonly id: number;
  /** The first live replica; null when there is none. */
  readonly primary: string | null;
  readonly replicas: readonly string[];
  /** What the replicas are going to be, while the shard moves. */
  readonly next?: readonly string[];
  readonly status: 'active' | 'moving' | 'degraded' | 'unavailable';
}

export const moveRequest = z.strictObject({ from: z.string(), to: z.string() });

export class ShardOperations {
  readonly #nodes: Nodes;
  readonly #placement: ShardPlacement;
  readonly #directory: CollectionDirectory;
  readonly #jobs: JobOperations;

  constructor(parts: {
    nodes: Nodes;
    placement: ShardPlacement;
    directory: CollectionDirectory;
    jobs: JobOperations;
  }) {
    this.#nodes = parts.nodes;
    this.#placement = parts.placement;
    this.#directory = parts.directory;
    this.#jobs = parts.jobs;
  }

  /** As the nodes that can be asked have it now. */
  async list(name: string): Promise<ShardView[]> {
    const collection = await this.#directory.refresh(name, deadlineIn(defaultTimeoutMs));
    return Array.from({ length: collection.table.shards }, (_, shard) =>
      this.#view(collection, shard as ShardNumber),
    );
  }

  async of(
    name: string,
    id: string,
  ): Promise<{ shard: number; primary: string | null; replicas: readonly string[] }> {
    const key = checkKey(id);
    const collection = await this.#directory.get(name, deadlineIn(defaultTimeoutMs));
    idChecks(collection).checkId?.(key);
    const { id: shard, primary, replicas } = this.#view(collection, shardOf(key, collection.table));
    return { shard, primary, replicas };
  }

  /** A job. What is decided by the map is decided again in it. */
  async move(name: string, shard: string, body: unknown): Promise<JobView> {
    const { map, table } = await this.#directory.get(name, deadlineIn(defaultTimeoutMs));
    if (!/^(0|[1-9]\d{0,4})$/.test(shard) || Number(shard) >= table.shards)
      throw invalid(`shard: must be a number from 0 to ${table.shards - 1}`);
    const { from, to } = parseWith(moveRequest, body);
    if (map === undefined)
      throw new PgquorumError(
        'invalid_request',
        `every node holds every shard of ${name}: there is nothing to move`,
      );
    for (const node of [from, to])
      if (this.#nodes.byName(node) === undefined) throw new PgquorumError('node_not_found', `node ${node}`);
    return this.#jobs.start({
      kind: moveJob,
      arguments: { collection: name, shard: Number(shard), from, to } satisfies MoveArguments,
      unit: 'keys',
      takesBack: true,
    });
  }

  #view(collection: CollectionRow, shard: ShardNumber): ShardView {
    const replicas = this.#placement.replicasOf(collection, shard);
    const next = collection.map?.find((entry) => entry.shard === shard)?.next ?? null;
    const live = this.#nodes.inOrder(replicas).filter((node) => node.isUp);
    const status =
      live.length === 0
        ? 'unavailable'
        : next !== null
          ? 'moving'
          : live.length < replicas.length
            ? 'degraded'
            : 'active';
    return {
      id: shard,
      primary: live[0]?.name ?? null,
      replicas,
      ...(next === null ? {} : { next }),
      status,
    };
  }
}
