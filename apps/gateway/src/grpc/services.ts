/** The services' methods: each reads its message, calls the same verb as HTTP does, and shows the result. */
import { PgquorumError } from '#core/errors/error.ts';
import type { CollectionOperations } from '../operations/collections.ts';
import type { ConflictOperations } from '../operations/conflicts.ts';
import type { DeadLetterOperations } from '../operations/dead-letters.ts';
import type { ChangeOperations } from '../operations/changes.ts';
import type { EventOperations } from '../operations/events.ts';
import type { ClusterOperations } from '../operations/cluster.ts';
import type { JobOperations } from '../operations/jobs.ts';
import type { Caller, WriteCall } from '../operations/caller.ts';
import type { ThrottleOperations } from '../operations/throttle.ts';
import type { VectorOperations, WriteAnswer } from '../operations/vectors.ts';
import type { ShardOperations } from '../operations/shards.ts';
import type { Identity } from '../access/identity.ts';
import type { ReplicaOperations } from '../operations/replicas.ts';
import type { VerifyOperations } from '../operations/verify.ts';
import { collectionMethods } from './collections.ts';
import { deadLetterMethods } from './dead-letters.ts';
import {
  given,
  readEmbedding,
  readJson,
  showConflict,
  showEmbedding,
  showItemError,
  showReceipt,
  showStored,
  showVersion,
  type EmbeddingMessage,
} from './messages.ts';
import { replicaMethods } from './replicas.ts';
import { showJob } from './job-message.ts';
import { changeMethods } from './changes.ts';
import { shardMethods } from './shards.ts';
import { throttleMethods } from './throttle.ts';
import { readPatch, type PatchMessage } from './patch.ts';

export interface CallContext {
  readonly caller: Caller;
  readonly identity: Identity;
  /** From the call's deadline; undefined without one. */
  readonly timeoutMs: number | undefined;
}

export type Method = (request: never, context: CallContext) => Promise<object>;
/** Gives messages until the call is cancelled or the gateway ends. */
export type StreamMethod = (request: never, context: CallContext) => AsyncIterable<object>;
export type Services = Readonly<Record<string, Readonly<Record<string, Method | StreamMethod>>>>;

export interface ServiceParts {
  readonly vectors: VectorOperations;
  readonly collections: CollectionOperations;
  readonly conflicts: ConflictOperations;
  readonly cluster: ClusterOperations;
  readonly shards: ShardOperations;
  readonly events: EventOperations;
  readonly jobs: JobOperations;
  readonly letters: DeadLetterOperations;
  readonly throttle: ThrottleOperations;
  readonly changes: ChangeOperations;
  readonly verify: VerifyOperations;
  readonly replicas: ReplicaOperations;
}

interface WriteOptionsMessage {
  readonly consistency?: string;
  readonly coordinator?: string;
  readonly idempotencyKey?: string;
  readonly onTimeout?: string;
}

function writeCall(
  request: { readonly options?: WriteOptionsMessage | null },
  { caller, timeoutMs }: CallContext,
): WriteCall {
  const { consistency, coordinator, idempotencyKey, onTimeout } = request.options ?? {};
  const key = idempotencyKey === undefined || idempotencyKey === '' ? null : idempotencyKey;
  return {
    caller,
    options: given({ consistency, coordinator, onTimeout, timeoutMs }),
    idempotencyKey: key,
    body: key === null ? '' : JSON.stringify({ ...request, options: null }),
  };
}

function showWrite({ results, consistency, token }: WriteAnswer): object {
  const [first] = results;
  if (first !== undefined && 'error' in first && results.every((result) => 'error' in result))
    throw first.error;
  return {
    results: results.map((result) =>
      'error' in result
        ? { id: result.id ?? '', error: showItemError(result.error), ...showReceipt(result.error) }
        : { ...result, version: showVersion(result.version) },
    ),
    consistency,
    token: token ?? '',
  };
}

interface UpsertMessage {
  readonly collection?: string;
  readonly vectors?: readonly {
    readonly id?: string;
    readonly embedding?: EmbeddingMessage | null;
    readonly metadataJson?: string;
    readonly model?: string;
  }[];
  readonly options?: WriteOptionsMessage | null;
}
interface IdsMessage {
  readonly collection?: string;
  readonly ids?: readonly string[];
  readonly consistency?: string;
  readonly include?: readonly string[];
  readonly token?: string;
  readonly options?: WriteOptionsMessage | null;
}
interface SearchMessage {
  readonly collection?: string;
  readonly embedding?: EmbeddingMessage | null;
  readonly id?: string;
  readonly k?: number;
  readonly filterJson?: string;
  readonly efSearch?: number;
  readonly include?: readonly string[];
  readonly maxDistance?: number;
  readonly consistency?: string;
  readonly allowPartial?: boolean;
  readonly token?: string;
}

const vectorWrites = (vectors: VectorOperations) => ({
  Upsert: async (request: UpsertMessage, context: CallContext) => {
    const items = (request.vectors ?? []).map(({ id = '', embedding, metadataJson, model }, at) =>
      given({
        id: id === '' ? null : id,
        embedding: readEmbedding(embedding),
        metadata: readJson(`vectors.${at}.metadata_json`, metadataJson),
        model,
      }),
    );
    return showWrite(
      await vectors.upsert(request.collection ?? '', { vectors: items }, writeCall(request, context)),
    );
  },
  Patch: async (
    request: PatchMessage & { readonly options?: WriteOptionsMessage | null },
    context: CallContext,
  ) => {
    const { collection = '', id = '', ifMatch = '' } = request;
    const result = await vectors.patch(collection, id, readPatch(request), {
      ...writeCall(request, context),
      ifMatch: ifMatch === '' ? null : ifMatch,
    });
    return showWrite({ results: [result], ...result });
  },
  Delete: async (request: IdsMessage, context: CallContext) =>
    showWrite(
      await vectors.removeAll(
        request.collection ?? '',
        { ids: request.ids ?? [] },
        writeCall(request, context),
      ),
    ),
});

const vectorReads = (vectors: VectorOperations) => ({
  Get: async (request: IdsMessage, { caller, timeoutMs }: CallContext) => {
    const results = await vectors.getAll(
      request.collection ?? '',
      { ids: request.ids ?? [] },
      {
        caller,
        options: given({
          consistency: request.consistency,
          include: request.include?.join(','),
          token: request.token,
          timeoutMs,
        }),
      },
    );
    return {
      results: results.map((result) =>
        'error' in result ? { id: result.id ?? '', error: showItemError(result.error) } : showStored(result),
      ),
    };
  },
  Search: async (request: SearchMessage, { caller, timeoutMs }: CallContext) => {
    const {
      collection = '',
      embedding,
      id,
      k,
      efSearch,
      include = [],
      maxDistance,
      consistency,
      allowPartial,
      token,
    } = request;
    const near = embedding === undefined || embedding === null ? {} : { embedding: readEmbedding(embedding) };
    const body = given({
      ...near,
      id,
      k,
      efSearch,
      maxDistance,
      consistency,
      allowPartial,
      token,
      filter: readJson('filter_json', request.filterJson),
      include: include.length === 0 ? undefined : include,
    });
    const found = await vectors.search(collection, body, { caller, options: given({ timeoutMs }) });
    const matches = found.matches.map(({ embedding: numbers, metadata, version, crdt, ...match }) => ({
      ...match,
      ...(numbers === undefined ? {} : { embedding: showEmbedding(numbers) }),
      ...(metadata === undefined ? {} : { metadataJson: JSON.stringify(metadata) }),
      ...(version === undefined ? {} : { version: showVersion(version) }),
      ...(crdt === undefined ? {} : { crdtJson: JSON.stringify(crdt) }),
    }));
    return { ...found, matches };
  },
});

interface ConflictFilterMessage {
  readonly collection?: string;
  readonly key?: string;
  readonly state?: string;
  readonly kind?: string;
  readonly origin?: string;
  readonly since?: string;
  readonly until?: string;
  readonly noise?: boolean;
}
interface ListConflictsMessage extends ConflictFilterMessage {
  readonly limit?: number;
  readonly cursor?: string;
}

interface ResolveMessage {
  readonly id?: string;
  readonly ifMatch?: string;
  readonly embedding?: EmbeddingMessage | null;
  readonly metadataJson?: string;
  readonly deleted?: boolean;
}

/** A key may be empty and is given all the same. */
const filterOf = ({ key, ...request }: Readonly<Record<string, unknown>>): Record<string, unknown> => ({
  ...given(request),
  ...(key === undefined ? {} : { key }),
});

const ifMatchOf = ({ ifMatch = '' }: { readonly ifMatch?: string }): string | null =>
  ifMatch === '' ? null : ifMatch;

const withoutNulls = (value: object): object =>
  Object.fromEntries(Object.entries(value).filter(([, field]) => field !== null));

const replicationMethods = (cluster: ClusterOperations, conflicts: ConflictOperations) => ({
  Lag: async () => {
    const { maxMs, edges } = await cluster.lag();
    return withoutNulls({ maxMs, edges: edges.map(withoutNulls) });
  },
  ListReplicas: async () => ({ items: (await cluster.replicas()).map(withoutNulls) }),
  ListConflicts: async ({ limit, ...request }: ListConflictsMessage) => {
    const { items, nextCursor } = await conflicts.list(
      filterOf({ ...request, limit: limit === 0 ? undefined : limit }),
    );
    return { items: items.map(showConflict), nextCursor: nextCursor ?? '' };
  },
  CountConflicts: (request: ConflictFilterMessage) => conflicts.count(filterOf({ ...request })),
  GetConflict: async (request: { id?: string }) => showConflict(await conflicts.get(request.id ?? '')),
  RestoreConflict: async (request: { id?: string; ifMatch?: string }) => {
    const restored = await conflicts.restore(request.id ?? '', ifMatchOf(request));
    return { ...restored, version: showVersion(restored.version), replaced: restored.replaced ?? '' };
  },
  ResolveConflict: async (request: ResolveMessage) => {
    const { embedding, metadataJson, deleted } = request;
    const body = {
      ...(embedding === undefined || embedding === null ? {} : { embedding: readEmbedding(embedding) }),
      ...given({ metadata: readJson('metadata_json', metadataJson) }),
      ...(deleted === true ? { deleted } : {}),
    };
    const resolved = await conflicts.resolve(request.id ?? '', body, ifMatchOf(request));
    return { ...resolved, version: showVersion(resolved.version) };
  },
});

interface VerifyMessage {
  readonly collection?: string;
  readonly deep?: boolean;
  readonly repair?: string;
}

const verifyMethods = (verify: VerifyOperations) => ({
  Verify: async ({ collection, deep, repair }: VerifyMessage) =>
    showJob(await verify.start(given({ collection, deep, repair }))),
});

const eventMethods = (events: EventOperations) => ({
  Events: async function* (
    { after = '', types }: { after?: string; types?: readonly string[] },
    { caller }: CallContext,
  ) {
    const signal = caller.signal ?? new AbortController().signal;
    const { pages } = await events.open({ after, types: types?.join(','), signal });
    for await (const page of pages)
      for (const { body, ...event } of page) yield { ...event, bodyJson: JSON.stringify(body) };
  },
});

const clusterMethods = (cluster: ClusterOperations, jobs: JobOperations) => ({
  ListNodes: async () => ({ items: (await cluster.nodes()).map(withoutNulls) }),
  GetHealth: () => cluster.health(),
  ListJobs: async ({
    limit,
    ...request
  }: {
    limit?: number;
    cursor?: string;
    state?: string;
    kind?: string;
  }) => {
    const { items, nextCursor, unreachable } = await jobs.list(
      given({ ...request, limit: limit === 0 ? undefined : limit }),
    );
    return { items: items.map(showJob), nextCursor: nextCursor ?? '', unreachable: unreachable ?? [] };
  },
  GetJob: async (request: { id?: string }) => showJob(await jobs.get(request.id ?? '')),
  Preflight: async () => showJob(await jobs.preflight()),
  CancelJob: async (request: { id?: string }) => showJob(await jobs.cancel(request.id ?? '')),
});

/** By the services' full names. */
export function makeServices(parts: ServiceParts): Services {
  const { vectors, collections, conflicts, cluster, events, changes, jobs, letters, verify } = parts;
  return {
    'pgquorum.v1.Vectors': { ...vectorWrites(vectors), ...vectorReads(vectors) },
    'pgquorum.v1.Collections': collectionMethods(collections),
    'pgquorum.v1.Replication': {
      ...replicationMethods(cluster, conflicts),
      ...deadLetterMethods(letters),
      ...verifyMethods(verify),
      ...replicaMethods(parts.replicas),
      ...throttleMethods(parts.throttle),
      ...eventMethods(events),
      ...changeMethods(changes),
    },
    'pgquorum.v1.Cluster': { ...clusterMethods(cluster, jobs), ...shardMethods(parts.shards) },
  } as Services;
}

export const methodOf = (services: Services, service: string, name: string): Method | StreamMethod => {
  const method = services[service]?.[name];
  if (method === undefined)
    throw new PgquorumError('internal', `${service}/${name} is in the .proto and has no method`);
  return method;
};
