/** A gateway as an object: a method for each route, grouped as the routes are. */
import { localError, PgquorumError } from './error.ts';
import { Cluster, Conflicts, DeadLetters, Jobs, Replication } from './operating.ts';
import type { Change, ClusterEvent } from './operating-types.ts';
import { serverEvents, type StreamOptions } from './server-events.ts';
import { Transport, type CallOptions, type TransportOptions } from './transport.ts';
import { Collections, segment, Vectors } from './vectors.ts';

export interface ClientOptions extends TransportOptions {
  /** Dense embeddings are given as `Float32Array` instead of arrays of numbers. */
  readonly float32?: boolean;
}

export interface Readiness {
  readonly ready: boolean;
  /** Why it is not, or what is wrong all the same. */
  readonly problems: readonly string[];
}

export class PgquorumClient {
  readonly collections: Collections;
  readonly vectors: Vectors;
  readonly conflicts: Conflicts;
  readonly deadLetters: DeadLetters;
  readonly replication: Replication;
  readonly cluster: Cluster;
  readonly jobs: Jobs;
  readonly #transport: Transport;

  constructor(options: ClientOptions) {
    this.#transport = new Transport(options);
    this.collections = new Collections(this.#transport);
    this.vectors = new Vectors(this.#transport, options.float32 === true);
    this.conflicts = new Conflicts(this.#transport);
    this.deadLetters = new DeadLetters(this.#transport);
    this.replication = new Replication(this.#transport);
    this.cluster = new Cluster(this.#transport);
    this.jobs = new Jobs(this.#transport);
  }

  /** What happens in the cluster, from now on or behind `after`. Comes back by itself; ends with the signal, or when the caller stops. */
  async *events(
    options: StreamOptions & { readonly types?: readonly string[] } = {},
  ): AsyncGenerator<ClusterEvent, void> {
    const query = { types: options.types?.join(',') };
    for await (const { id, data } of serverEvents(this.#transport, { path: '/v1/events', query }, options))
      yield { ...(JSON.parse(data) as object), id } as ClusterEvent;
  }

  /** Every committed change of a collection: from now on, or behind the `position` of a change. Ends as `events` does. */
  async *changes(
    collection: string,
    { from, signal }: { readonly from?: string; readonly signal?: AbortSignal } = {},
  ): AsyncGenerator<Change, void> {
    const request = { path: `/v1/changes/${segment(collection)}`, query: { from } };
    for await (const { id, type, data } of serverEvents(this.#transport, request, { signal }))
      if (type !== 'position') yield { ...(JSON.parse(data) as object), position: id } as Change;
  }

  /** Where the changes of a collection are now. Who reads all rows after it, and then the changes from it on, has missed nothing. */
  async position(collection: string, { signal }: { readonly signal?: AbortSignal } = {}): Promise<string> {
    const request = { path: `/v1/changes/${segment(collection)}`, query: {} };
    for await (const { id } of serverEvents(this.#transport, request, { signal })) if (id !== null) return id;
    signal?.throwIfAborted();
    throw localError('connection_failed', 'the stream ended before it began');
  }

  /** Whether writes are taken and move to the other nodes. */
  async ready(options?: CallOptions): Promise<Readiness> {
    try {
      const { problems } = await this.#transport.json<{ problems: string[] }>(
        { method: 'GET', path: '/readyz', repeatable: false },
        options,
      );
      return { ready: true, problems };
    } catch (cause) {
      if (!(cause instanceof PgquorumError) || cause.code !== 'not_ready') throw cause;
      return { ready: false, problems: cause.body['reasons'] as string[] };
    }
  }

  /** The process answers. */
  async alive(options?: CallOptions): Promise<void> {
    await this.#transport.json({ method: 'GET', path: '/healthz', repeatable: true }, options);
  }

  /** In the format of Prometheus. */
  metrics(options?: CallOptions): Promise<string> {
    return this.#transport.text({ method: 'GET', path: '/metrics', repeatable: true }, options);
  }

  /** The OpenAPI document of this gateway. */
  document(options?: CallOptions): Promise<Record<string, unknown>> {
    return this.#transport.json({ method: 'GET', path: '/openapi.json', repeatable: true }, options);
  }
}
