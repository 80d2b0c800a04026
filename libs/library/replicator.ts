/**
 * Replication inside of another program: the loops of apps/replicator and the verbs of apps/gateway, put together as those do it, without their
 * servers. Loaded when it is started, so that programs which take only the algorithms load only those.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { errorCodes, type ErrorCode } from '#core/errors/codes.ts';
import { PgquorumError } from '#core/errors/error.ts';
import type { JobView } from '#core/jobs/job.ts';
import type { ClusterEvent, EventType } from '#core/events/event.ts';
import { createLogger } from '#core/observability/logger.process.ts';
import type { ReplicaView } from '#core/topology/replica-status.ts';
import type { ItemResult } from '#core/writes/writer.pg.ts';
import type { Operations } from '../../apps/gateway/src/embedded.ts';
import type { LagView } from '../../apps/gateway/src/operations/cluster.ts';
import { settingsOf, type ReplicaAddress, type ReplicationConfig } from './replication-config.ts';

export interface VectorEntry {
  readonly id: string;
  /** Numbers, or another form of docs/search.md. Null = not found by search. */
  readonly embedding?: unknown;
  readonly metadata?: Readonly<Record<string, unknown>>;
  readonly model?: string;
}

export interface WriteOptions {
  readonly collection: string;
  readonly consistency?: 'one' | 'quorum' | 'all';
  readonly timeoutMs?: number;
  readonly coordinator?: 'primary' | 'nearest';
  /** Repeating a write under the same key, also through another process, is one write. */
  readonly idempotencyKey?: string;
}

/** One that was written; those that were not carry `error` instead. */
export type WriteResult = ItemResult;
export type WrittenResult = Exclude<WriteResult, { readonly error: unknown }>;

export interface EventsOptions {
  /** Id of the last event that was received; unset = from now on. */
  readonly after?: string;
  readonly types?: readonly EventType[];
  readonly signal?: AbortSignal;
}

/** A database that is to become a node. */
export interface AddedReplica extends ReplicaAddress {
  /** Also when keys of attached tables are drawn from sequences that are not apart. */
  readonly allow?: { readonly sequences: boolean };
}

export interface RemoveOptions {
  /** It can not be reached, and will not come back. */
  readonly lost?: boolean;
  /** With Kafka: its topics go too. */
  readonly deleteTopics?: boolean;
}

const jobLookMs = 100;

interface Running {
  readonly operations: Operations;
  readonly loops: { close(): Promise<void> };
  readonly ended: AbortController;
}

export class Replicator {
  readonly #config: ReplicationConfig;
  readonly #settings: ReturnType<typeof settingsOf>;
  #starting: Promise<Running> | null = null;

  /** Throws `settings_invalid` with every mistake in the configuration. */
  constructor(config: ReplicationConfig) {
    this.#config = config;
    this.#settings = settingsOf(config);
  }

  /** Brings the masters to the newest schema, founds the cluster if it is new, and starts all loops. Calling it again waits for the same. */
  async start(): Promise<void> {
    this.#starting ??= this.#start().catch((cause: unknown) => {
      this.#starting = null;
      throw cause;
    });
    await this.#starting;
  }

  async #start(): Promise<Running> {
    const [{ startReplicator }, { openOperations }] = await Promise.all([
      import('../../apps/replicator/src/embedded.ts'),
      import('../../apps/gateway/src/embedded.ts'),
    ]);
    const { onLog } = this.#config;
    const logger = createLogger({
      app: 'replicator',
      level: this.#settings.logLevel,
      ...(onLog === undefined ? {} : { write: onLog }),
    });
    const loops = await startReplicator(this.#settings, logger);
    try {
      const operations = await openOperations(this.#settings, logger);
      return { operations, loops, ended: new AbortController() };
    } catch (cause) {
      await loops.close();
      throw cause;
    }
  }

  /** Ends event streams, drains the loops and closes all connections. What was not carried yet is carried after the next start. */
  async stop(): Promise<void> {
    const starting = this.#starting;
    this.#starting = null;
    const running = await starting?.catch(() => null); // whoever started it was told
    if (running === null || running === undefined) return;
    running.ended.abort();
    await running.operations.close();
    await running.loops.close();
  }

  /** Makes it on every master, or answers that it is there with this very definition: the body of `PUT /v1/collections/{name}`. */
  async createCollection(
    name: string,
    definition: { readonly dimension: number } & object,
  ): Promise<boolean> {
    return (await (await this.#running()).operations.collections.put(name, definition)).created;
  }

  /** Throws the error of the entry, when it has one. */
  async write(entry: VectorEntry, options: WriteOptions): Promise<WrittenResult> {
    const [result] = await this.writeBatch([entry], options);
    if (result === undefined) throw new PgquorumError('internal', 'a write gave no result');
    if ('error' in result) throw result.error;
    return result;
  }

  /** Entries that are invalid get errors of their own; the others are atomic on each master. */
  async writeBatch(
    entries: readonly VectorEntry[],
    { collection, idempotencyKey, ...options }: WriteOptions,
  ): Promise<readonly WriteResult[]> {
    const { operations } = await this.#running();
    const body = { vectors: entries };
    const { results } = await operations.vectors.upsert(collection, body, {
      caller: { principal: 'anonymous' },
      options,
      idempotencyKey: idempotencyKey ?? null,
      body: idempotencyKey === undefined ? '' : JSON.stringify(body),
    });
    return results;
  }

  /** The greatest lag, and that of each edge. */
  async lag(): Promise<LagView> {
    return (await this.#running()).operations.cluster.lag();
  }

  async replicas(): Promise<readonly ReplicaView[]> {
    return (await this.#running()).operations.cluster.replicas();
  }

  /** What happens in the cluster, until the loop over it is left, the signal aborts or the replicator stops. */
  async *events({ after = '', types, signal }: EventsOptions = {}): AsyncGenerator<ClusterEvent, void> {
    const { operations, ended } = await this.#running();
    const left = new AbortController();
    const signals = [ended.signal, left.signal, ...(signal === undefined ? [] : [signal])];
    const opened = await operations.events
      .open({
        after,
        types: types?.join(','),
        signal: AbortSignal.any(signals),
      })
      .catch((cause: unknown) => {
        // It was given up before it began.
        if (AbortSignal.any(signals).aborted) return null;
        throw cause;
      });
    if (opened === null) return;
    try {
      for await (const page of opened.pages) yield* page;
    } finally {
      left.abort();
    }
  }

  /** Makes a database a node while everything runs, and resolves when it is filled and takes requests. Throws what is in the way. */
  async addReplica(node: AddedReplica): Promise<void> {
    await this.#finished((await this.#running()).operations.replicas.add(node));
  }

  /** Takes a node out: resolves when the others have everything that it had, and nothing of it is left. With `lost`, one that can not be reached any more. */
  async removeReplica(
    name: string,
    { lost = false, deleteTopics = false }: RemoveOptions = {},
  ): Promise<void> {
    const { operations } = await this.#running();
    await this.#finished(
      operations.replicas.remove(name, { lost, topics: deleteTopics ? 'delete' : 'keep' }),
    );
  }

  /** Has a node copy the states of all keys from all others. */
  async forceSync(name: string): Promise<void> {
    await this.#finished((await this.#running()).operations.replicas.sync(name));
  }

  /** Stopping the replicator leaves the job to whoever serves its home next. */
  async #finished(started: Promise<JobView>): Promise<void> {
    const { id } = await started;
    const { operations, ended } = await this.#running();
    for (;;) {
      const { state, error } = await operations.jobs.get(id);
      if (state === 'done') return;
      if (state === 'failed' && error !== undefined)
        throw new PgquorumError(
          error.code in errorCodes ? (error.code as ErrorCode) : 'internal',
          error.detail,
        );
      if (state === 'failed' || state === 'cancelled')
        throw new PgquorumError('job_cancelled', `job ${id} is ${state}`);
      if (ended.signal.aborted)
        throw new PgquorumError('shutting_down', `job ${id} goes on without this process`);
      await sleep(jobLookMs, undefined, { signal: ended.signal }).catch(() => undefined); // looked at above
    }
  }

  #running(): Promise<Running> {
    return (
      this.#starting ??
      Promise.reject(new PgquorumError('not_ready', 'the replicator is not started: call start() first'))
    );
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }
}
