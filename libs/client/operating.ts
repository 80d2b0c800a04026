/** Conflicts, dead letters, replication, the cluster and jobs. */
import { sentEmbedding } from './embedding.ts';
import { localError, PgquorumError } from './error.ts';
import type {
  Conflict,
  ConflictCounts,
  ConflictFilter,
  DeadLetter,
  DeadLetterFilter,
  DeadLetterPage,
  Health,
  InspectedDeadLetter,
  Lag,
  Limits,
  NewReplica,
  Node,
  Overview,
  Replica,
  ReplayedDeadLetter,
  Resolution,
  ResolvedConflict,
  RestoredConflict,
  Shard,
  ShardOfKey,
  Throttle,
  Verification,
} from './operating-types.ts';
import { pause, type CallOptions, type Request, type Transport } from './transport.ts';
import type { Job, JobPage, JobState, Page, PageOptions, StartedJob } from './types.ts';
import { segment } from './vectors.ts';

const read = (path: string, query?: object): Request => ({
  method: 'GET',
  path,
  query: (query ?? {}) as Record<string, string>,
  repeatable: true,
});
const start = (path: string, body?: unknown): Request => ({ method: 'POST', path, body, repeatable: false });

/** All items of a list, page after page. */
async function* pages<T>(list: (cursor: string | undefined) => Promise<Page<T>>): AsyncGenerator<T, void> {
  let cursor: string | undefined;
  do {
    const page = await list(cursor);
    yield* page.items;
    cursor = page.nextCursor;
  } while (cursor !== undefined);
}

export interface IfMatch extends CallOptions {
  readonly ifMatch?: string;
}

export class Conflicts {
  readonly #transport: Transport;

  constructor(transport: Transport) {
    this.#transport = transport;
  }

  list(filter: ConflictFilter & PageOptions = {}, options?: CallOptions): Promise<Page<Conflict>> {
    return this.#transport.json(read('/v1/conflicts', filter), options);
  }

  all(filter: ConflictFilter = {}, options?: CallOptions): AsyncGenerator<Conflict, void> {
    return pages((cursor) => this.list({ ...filter, cursor, limit: 1000 }, options));
  }

  count(filter: ConflictFilter = {}, options?: CallOptions): Promise<ConflictCounts> {
    return this.#transport.json(read('/v1/conflicts/count', filter), options);
  }

  get(id: string, options?: CallOptions): Promise<Conflict> {
    return this.#transport.json(read(`/v1/conflicts/${segment(id)}`), options);
  }

  /** Writes the loser again, whatever the row is now. */
  restore(id: string, options: IfMatch = {}): Promise<RestoredConflict> {
    const request = start(`/v1/conflicts/${segment(id)}/restore`);
    return this.#transport.json({ ...request, headers: { 'if-match': options.ifMatch } }, options);
  }

  resolve(id: string, resolution: Resolution = {}, options: IfMatch = {}): Promise<ResolvedConflict> {
    const { embedding } = resolution;
    const body =
      embedding === undefined ? resolution : { ...resolution, embedding: sentEmbedding(embedding) };
    const request = start(`/v1/conflicts/${segment(id)}/resolve`, body);
    return this.#transport.json({ ...request, headers: { 'if-match': options.ifMatch } }, options);
  }
}

export class DeadLetters {
  readonly #transport: Transport;

  constructor(transport: Transport) {
    this.#transport = transport;
  }

  list(filter: DeadLetterFilter & PageOptions = {}, options?: CallOptions): Promise<DeadLetterPage> {
    return this.#transport.json(read('/v1/dead-letters', filter), options);
  }

  all(filter: DeadLetterFilter = {}, options?: CallOptions): AsyncGenerator<DeadLetter, void> {
    return pages((cursor) => this.list({ ...filter, cursor, limit: 1000 }, options));
  }

  get(id: string, options?: CallOptions): Promise<InspectedDeadLetter> {
    return this.#transport.json(read(`/v1/dead-letters/${segment(id)}`), options);
  }

  replay(id: string, options?: CallOptions): Promise<ReplayedDeadLetter> {
    return this.#transport.json(start(`/v1/dead-letters/${segment(id)}/replay`), options);
  }

  discard(id: string, options?: CallOptions): Promise<void> {
    const path = `/v1/dead-letters/${segment(id)}`;
    return this.#transport.json({ method: 'DELETE', path, repeatable: false }, options);
  }
}

export class Replication {
  readonly #transport: Transport;

  constructor(transport: Transport) {
    this.#transport = transport;
  }

  lag(options?: CallOptions): Promise<Lag> {
    return this.#transport.json(read('/v1/replication/lag'), options);
  }

  async replicas(options?: CallOptions): Promise<readonly Replica[]> {
    return (await this.#transport.json<Page<Replica>>(read('/v1/replication/replicas'), options)).items;
  }

  addReplica(replica: NewReplica, options?: CallOptions): Promise<StartedJob> {
    return this.#transport.json(start('/v1/replication/replicas', replica), options);
  }

  removeReplica(
    node: string,
    {
      lost,
      topics,
      ...options
    }: CallOptions & { readonly lost?: boolean; readonly topics?: 'keep' | 'delete' } = {},
  ): Promise<StartedJob> {
    const path = `/v1/replication/replicas/${segment(node)}`;
    return this.#transport.json(
      { method: 'DELETE', path, query: { lost, topics }, repeatable: false },
      options,
    );
  }

  /** Copies the states of all keys to a node, from all others. */
  syncReplica(node: string, options?: CallOptions): Promise<StartedJob> {
    return this.#transport.json(start(`/v1/replication/replicas/${segment(node)}/sync`), options);
  }

  throttle(options?: CallOptions): Promise<Throttle> {
    return this.#transport.json(read('/v1/replication/throttle'), options);
  }

  setThrottle(limits: Limits, options: IfMatch = {}): Promise<Throttle> {
    return this.#transport.json(
      {
        method: 'PUT',
        path: '/v1/replication/throttle',
        body: limits,
        headers: { 'if-match': options.ifMatch },
        repeatable: options.ifMatch === undefined,
      },
      options,
    );
  }

  verify(verification: Verification = {}, options?: CallOptions): Promise<StartedJob> {
    return this.#transport.json(start('/v1/verify', verification), options);
  }

  preflight(options?: CallOptions): Promise<StartedJob> {
    return this.#transport.json(start('/v1/preflight'), options);
  }
}

export class Cluster {
  readonly #transport: Transport;

  constructor(transport: Transport) {
    this.#transport = transport;
  }

  health(options?: CallOptions): Promise<Health> {
    return this.#transport.json(read('/v1/cluster/health'), options);
  }

  async nodes(options?: CallOptions): Promise<readonly Node[]> {
    return (await this.#transport.json<Page<Node>>(read('/v1/cluster/nodes'), options)).items;
  }

  async shards(collection: string, options?: CallOptions): Promise<readonly Shard[]> {
    const path = `/v1/cluster/shards/${segment(collection)}`;
    return (await this.#transport.json<Page<Shard>>(read(path), options)).items;
  }

  shardOf(collection: string, key: string, options?: CallOptions): Promise<ShardOfKey> {
    return this.#transport.json(
      read(`/v1/cluster/shards/${segment(collection)}/of/${segment(key)}`),
      options,
    );
  }

  moveShard(
    collection: string,
    shard: number,
    { from, to }: { readonly from: string; readonly to: string },
    options?: CallOptions,
  ): Promise<StartedJob> {
    return this.#transport.json(
      start(`/v1/cluster/shards/${segment(collection)}/${shard}/move`, { from, to }),
      options,
    );
  }

  overview(options?: CallOptions): Promise<Overview> {
    return this.#transport.json(read('/v1/overview'), options);
  }
}

export interface WaitOptions extends CallOptions {
  readonly onProgress?: (job: Job) => void;
}

const lookMinMs = 100;
const lookMaxMs = 2000;
const waitMsDefault = 600_000;

export class Jobs {
  readonly #transport: Transport;

  constructor(transport: Transport) {
    this.#transport = transport;
  }

  list(
    filter: { readonly state?: JobState; readonly kind?: string } & PageOptions = {},
    options?: CallOptions,
  ): Promise<JobPage> {
    return this.#transport.json(read('/v1/jobs', filter), options);
  }

  get(id: string, options?: CallOptions): Promise<Job> {
    return this.#transport.json(read(`/v1/jobs/${segment(id)}`), options);
  }

  cancel(id: string, options?: CallOptions): Promise<StartedJob> {
    const path = `/v1/jobs/${segment(id)}`;
    return this.#transport.json({ method: 'DELETE', path, repeatable: true }, options);
  }

  /** Resolves when the job is done; throws its error when it has failed, `job_cancelled` when somebody ended it. */
  async wait(
    started: StartedJob | string,
    { onProgress, deadlineMs = waitMsDefault, ...options }: WaitOptions = {},
  ): Promise<Job> {
    const id = typeof started === 'string' ? started : started.job.id;
    const over = AbortSignal.timeout(deadlineMs);
    const signal = options.signal === undefined ? over : AbortSignal.any([over, options.signal]);
    for (let lookMs = lookMinMs; ; lookMs = Math.min(lookMaxMs, lookMs * 1.5)) {
      const job = await this.get(id, options);
      onProgress?.(job);
      if (job.state === 'done') return job;
      if (job.state === 'failed' || job.state === 'cancelled') throw endedJob(job);
      await pause(lookMs, signal);
      options.signal?.throwIfAborted();
      if (over.aborted) throw localError('deadline_exceeded', `job ${id} is ${job.state}`);
    }
  }
}

const endedJob = (job: Job): PgquorumError =>
  new PgquorumError({
    code: job.state === 'cancelled' ? 'job_cancelled' : (job.error?.code ?? 'internal'),
    status: 0,
    detail: job.error?.detail ?? `job ${job.id} is ${job.state}`,
    body: { job },
  });
