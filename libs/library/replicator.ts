/**
 * Replication inside of another program: the loops of apps/replicator and the verbs of apps/gateway, put together as those do it, without their
 * servers. Loaded when it is started, so that programs which take only the algorithms load only those.
 */
import { PgquorumError } from '#core/errors/error.ts';
import type { ClusterEvent, EventType } from '#core/events/event.ts';
import { createLogger } from '#core/observability/logger.process.ts';
import type { ReplicaView } from '#core/topology/replica-status.ts';
import type { ItemResult } from '#core/writes/writer.pg.ts';
import type { Operations } from '../../apps/gateway/src/embedded.ts';
import type { LagView } from '../../apps/gateway/src/operations/cluster.ts';
import { settingsOf, type ReplicationConfig } from './replication-config.ts';

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
    const { pages } = await operations.events.open({
      after,
      types: types?.join(','),
      signal: AbortSignal.any(signals),
    });
    try {
      for await (const page of pages) yield* page;
    } finally {
      left.abort();
    }
  }

  addReplica(_node: ReplicationConfig['nodes'][number]): Promise<never> {
    return Promise.reject(notYet('addReplica', 'the masters are those of the configuration'));
  }

  removeReplica(_name: string): Promise<never> {
    return Promise.reject(notYet('removeReplica', 'the masters are those of the configuration'));
  }

  forceSync(_name: string): Promise<never> {
    return Promise.reject(notYet('forceSync', 'what a replica has missed is copied by itself'));
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

const notYet = (verb: string, why: string): PgquorumError =>
  new PgquorumError('not_supported', `${verb} is not available in this version: ${why}`);
