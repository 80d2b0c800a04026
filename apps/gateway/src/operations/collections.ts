/** The verbs on collections. */
import { attachJob } from '#core/collections/attach-job.pg.ts';
import { parseAttach } from '#core/collections/attach-request.ts';
import type { CollectionRow } from '#core/collections/catalog.pg.ts';
import { parseChange, parseDefinition } from '#core/collections/definition-request.ts';
import type { CollectionDefinition } from '#core/collections/definition.ts';
import type { CollectionDirectory } from '#core/collections/directory.pg.ts';
import type { Settings } from '#core/config/settings.ts';
import type { JobBoard } from '#core/jobs/board.pg.ts';
import type { JobView } from '#core/jobs/job.ts';
import { deadlineIn } from '#core/postgres/session.pg.ts';
import { ddlRequest } from '#core/ddl/request.ts';
import { ddlJob } from '#core/ddl/work.pg.ts';
import { firstEpoch, planMap, type ShardMap } from '#core/shards/entry.ts';
import type { Nodes } from '#core/topology/nodes.pg.ts';
import { ShardPlacement } from '#core/topology/shard-placement.ts';
import { checkCollectionName, parseWith } from '#core/requests/fields.ts';
import { defaultTimeoutMs } from '#core/writes/consistency.ts';

export interface CollectionView {
  readonly name: string;
  readonly definition: CollectionDefinition;
  readonly shards: number;
  readonly createdAt: string;
}

export interface MeasuredCollectionView extends CollectionView {
  readonly rows: number;
  readonly bytes: number;
}

/** Unfinished jobs are few; a second one of a collection is harmless. */
const jobsSeenMax = 1000;

export interface AttachView {
  /** What brings the rows to all nodes. */
  readonly job: JobView;
  /** Nodes on which the table was made. */
  readonly created: readonly string[];
  readonly warnings: readonly string[];
}

const view = ({ name, definition, createdAt }: CollectionRow): CollectionView => ({
  name,
  definition,
  shards: definition.shards,
  createdAt: createdAt.toISOString(),
});

export class CollectionOperations {
  readonly #settings: Settings;
  readonly #directory: CollectionDirectory;
  readonly #jobs: JobBoard;
  readonly #nodes: Nodes;

  constructor(parts: { settings: Settings; directory: CollectionDirectory; jobs: JobBoard; nodes: Nodes }) {
    this.#settings = parts.settings;
    this.#directory = parts.directory;
    this.#jobs = parts.jobs;
    this.#nodes = parts.nodes;
  }

  async put(name: string, body: unknown): Promise<{ created: boolean; collection: CollectionView }> {
    checkCollectionName(name);
    const definition = parseDefinition(body, {
      shards: this.#settings.numShards,
      strategy: this.#settings.conflictResolution,
      replicationFactor: this.#settings.replicationFactor,
      nodes: this.#nodes.settled.length,
    });
    const { created } = await this.#directory.create(name, definition, this.#mapFor(name, definition));
    return { created, collection: view(await this.#directory.get(name, deadlineIn(defaultTimeoutMs))) };
  }

  /** Over the nodes that do not join: the others take shards when they are masters. */
  #mapFor(name: string, { shards, replicationFactor }: CollectionDefinition): ShardMap | undefined {
    if (replicationFactor === undefined) return undefined;
    const placement = new ShardPlacement(this.#nodes.settled, this.#settings);
    return planMap(name, { shards, replicationFactor, epoch: firstEpoch(Date.now()) }, (shard) =>
      placement.nodesOf(name, shard),
    );
  }

  async change(name: string, body: unknown): Promise<CollectionView> {
    await this.#directory.change(name, (before) => parseChange(body, before));
    return view(await this.#directory.get(name, deadlineIn(defaultTimeoutMs)));
  }

  async get(name: string): Promise<MeasuredCollectionView> {
    const found = await this.#directory.measure(name, deadlineIn(defaultTimeoutMs));
    return { ...view(found), rows: found.rows, bytes: Number(found.bytes) };
  }

  async list(): Promise<CollectionView[]> {
    return (await this.#directory.list(deadlineIn(defaultTimeoutMs))).map(view);
  }

  /** Makes an existing table a collection; its rows follow in a job. */
  async attach(name: string, body: unknown): Promise<AttachView> {
    checkCollectionName(name);
    const request = parseAttach(body, {
      shards: this.#settings.numShards,
      strategy: this.#settings.conflictResolution,
    });
    const { created, warnings } = await this.#directory.attach(name, request);
    const job =
      (await this.#attaching(name)) ??
      (await this.#jobs.start({ kind: attachJob, arguments: { collection: name }, unit: 'rows' }));
    return { job, created, warnings };
  }

  /** The job that is at it already. */
  async #attaching(name: string): Promise<JobView | undefined> {
    for (const state of ['running', 'waiting'] as const) {
      const { items } = await this.#jobs.list({ state, kind: attachJob, limit: jobsSeenMax, after: null });
      const found = items.find((job) => (job.arguments as { collection?: string }).collection === name);
      if (found !== undefined) return found;
    }
    return undefined;
  }

  /** Gives the table back as it was, with its rows. */
  async detach(name: string): Promise<void> {
    await this.#directory.detach(name);
  }

  /** Runs a statement on the collection's table on all nodes; what is known to be in the way is told at once. */
  async ddl(name: string, body: unknown): Promise<JobView> {
    const { statement } = parseWith(ddlRequest, body);
    await this.#directory.checkDdl(name, statement, deadlineIn(defaultTimeoutMs));
    return this.#jobs.start({ kind: ddlJob, arguments: { collection: name, statement }, unit: 'nodes' });
  }

  async drop(name: string): Promise<void> {
    await this.#directory.drop(name);
  }
}
