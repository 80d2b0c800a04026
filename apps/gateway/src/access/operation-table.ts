/**
 * What every route and every gRPC method needs of its caller: one entry for both, so that they can not differ. What has no entry is refused; a test
 * compares the table with the routes and the services.
 */
import type { Capability } from '#core/access/rights.ts';

/** Where the collection is named; gRPC has a field of the same name in its message. */
export type CollectionPlace =
  | { readonly in: 'path'; readonly field: 'name' | 'collection' }
  /** Without one it is about all collections. */
  | { readonly in: 'query'; readonly field: 'collection' }
  /** The `id` is one of a conflict record, which knows its collection. */
  | { readonly in: 'conflict' };

export interface Operation {
  readonly name: string;
  readonly http?: readonly string[];
  readonly grpc?: readonly string[];
  /** `all`: nobody needs a key for it. `known`: whoever has one may. `needs`: one of these. */
  readonly callers: 'all' | 'known' | 'needs';
  readonly needs: readonly Capability[];
  readonly on?: CollectionPlace;
  /** Having it for one collection is enough: what is asked for has an id that can not be guessed. */
  readonly anywhere?: true;
  /** It is about nodes by name: needs `topology:read` as well. */
  readonly topology?: true;
  /** An administrative call: logged, with these fields of the path, the query or the body. */
  readonly audited?: readonly string[];
  /** Lasts as long as the caller likes; there is a bound of its own on these. */
  readonly stream?: true;
}

type Rest = Partial<Pick<Operation, 'http' | 'grpc' | 'on' | 'anywhere' | 'topology' | 'audited' | 'stream'>>;

const needs = (name: string, capabilities: readonly Capability[], rest: Rest): Operation => ({
  name,
  callers: 'needs',
  needs: capabilities,
  ...rest,
});
const open = (name: string, http: string): Operation => ({ name, callers: 'all', needs: [], http: [http] });

const inPath = { in: 'path', field: 'collection' } as const;
const byName = { in: 'path', field: 'name' } as const;
const inQuery = { in: 'query', field: 'collection' } as const;
const ofConflict = { in: 'conflict' } as const;

const vectorOperations: readonly Operation[] = [
  needs('vectors.upsert', ['vectors:write'], {
    http: ['POST /v1/collections/:collection/vectors'],
    grpc: ['Vectors/Upsert'],
    on: inPath,
  }),
  needs('vectors.patch', ['vectors:write'], {
    http: ['PATCH /v1/collections/:collection/vectors/:id'],
    grpc: ['Vectors/Patch'],
    on: inPath,
  }),
  needs('vectors.delete', ['vectors:write'], {
    http: [
      'DELETE /v1/collections/:collection/vectors/:id',
      'POST /v1/collections/:collection/vectors/delete',
    ],
    grpc: ['Vectors/Delete'],
    on: inPath,
  }),
  needs('vectors.get', ['vectors:read'], {
    http: ['GET /v1/collections/:collection/vectors/:id', 'POST /v1/collections/:collection/vectors/get'],
    grpc: ['Vectors/Get'],
    on: inPath,
  }),
  needs('vectors.search', ['vectors:read'], {
    http: ['POST /v1/collections/:collection/search'],
    grpc: ['Vectors/Search'],
    on: inPath,
  }),
  needs('changes.stream', ['vectors:read'], {
    http: ['GET /v1/changes/:collection'],
    grpc: ['Replication/Changes'],
    on: inPath,
    topology: true,
    stream: true,
  }),
];

const collectionOperations: readonly Operation[] = [
  {
    // Those that the caller may do something with are listed.
    name: 'collections.list',
    callers: 'known',
    needs: [],
    http: ['GET /v1/collections'],
    grpc: ['Collections/List'],
  },
  needs('collections.get', ['vectors:read', 'vectors:write', 'conflicts:write', 'collections:admin'], {
    http: ['GET /v1/collections/:name'],
    grpc: ['Collections/Get'],
    on: byName,
  }),
  ...(
    [
      ['put', 'PUT /v1/collections/:name', 'Put'],
      ['change', 'PATCH /v1/collections/:name', 'Change'],
      ['drop', 'DELETE /v1/collections/:name', 'Delete'],
      ['attach', 'POST /v1/collections/:name/attach', 'Attach'],
      ['detach', 'POST /v1/collections/:name/detach', 'Detach'],
      ['ddl', 'POST /v1/collections/:name/ddl', 'Ddl'],
    ] as const
  ).map(([verb, route, method]) =>
    needs(`collections.${verb}`, ['collections:admin'], {
      http: [route],
      grpc: [`Collections/${method}`],
      on: byName,
      audited: ['name'],
    }),
  ),
];

const conflictOperations: readonly Operation[] = [
  needs('conflicts.list', ['vectors:read', 'conflicts:write'], {
    http: ['GET /v1/conflicts'],
    grpc: ['Replication/ListConflicts'],
    on: inQuery,
  }),
  needs('conflicts.count', ['vectors:read', 'conflicts:write'], {
    http: ['GET /v1/conflicts/count'],
    grpc: ['Replication/CountConflicts'],
    on: inQuery,
  }),
  needs('conflicts.get', ['vectors:read', 'conflicts:write'], {
    http: ['GET /v1/conflicts/:id'],
    grpc: ['Replication/GetConflict'],
    on: ofConflict,
  }),
  needs('conflicts.restore', ['conflicts:write'], {
    http: ['POST /v1/conflicts/:id/restore'],
    grpc: ['Replication/RestoreConflict'],
    on: ofConflict,
    audited: ['id'],
  }),
  needs('conflicts.resolve', ['conflicts:write'], {
    http: ['POST /v1/conflicts/:id/resolve'],
    grpc: ['Replication/ResolveConflict'],
    on: ofConflict,
    audited: ['id'],
  }),
];

const seesCluster = ['cluster:read', 'cluster:admin'] as const;

const clusterReads: readonly Operation[] = [
  needs('cluster.health', seesCluster, { http: ['GET /v1/cluster/health'], grpc: ['Cluster/GetHealth'] }),
  needs('jobs.list', seesCluster, { http: ['GET /v1/jobs'], grpc: ['Cluster/ListJobs'] }),
  // Whoever may start one may see how it goes.
  needs('jobs.get', [...seesCluster, 'collections:admin'], {
    http: ['GET /v1/jobs/:id'],
    grpc: ['Cluster/GetJob'],
    anywhere: true,
  }),
  ...(
    [
      ['cluster.nodes', 'GET /v1/cluster/nodes', 'Cluster/ListNodes'],
      ['replication.lag', 'GET /v1/replication/lag', 'Replication/Lag'],
      ['replication.replicas', 'GET /v1/replication/replicas', 'Replication/ListReplicas'],
      ['throttle.get', 'GET /v1/replication/throttle', 'Replication/GetThrottle'],
    ] as const
  ).map(([name, route, method]) =>
    needs(name, seesCluster, { http: [route], grpc: [method], topology: true }),
  ),
  needs('events.stream', seesCluster, {
    http: ['GET /v1/events'],
    grpc: ['Replication/Events'],
    topology: true,
    stream: true,
  }),
  needs('cluster.shards', [...seesCluster, 'vectors:read', 'vectors:write'], {
    http: ['GET /v1/cluster/shards/:collection'],
    grpc: ['Cluster/ListShards'],
    on: inPath,
    topology: true,
  }),
  needs('cluster.shard', [...seesCluster, 'vectors:read', 'vectors:write'], {
    http: ['GET /v1/cluster/shards/:collection/of/:key'],
    grpc: ['Cluster/FindShard'],
    on: inPath,
    topology: true,
  }),
];

const admin = (name: string, http: string, grpc: string, audited: readonly string[]): Operation =>
  needs(name, ['cluster:admin'], { http: [http], grpc: [grpc], audited });

const clusterOperations: readonly Operation[] = [
  admin('replicas.add', 'POST /v1/replication/replicas', 'Replication/AddReplica', ['name']),
  admin('replicas.remove', 'DELETE /v1/replication/replicas/:node', 'Replication/RemoveReplica', [
    'node',
    'lost',
  ]),
  admin('replicas.sync', 'POST /v1/replication/replicas/:node/sync', 'Replication/SyncReplica', ['node']),
  admin('throttle.set', 'PUT /v1/replication/throttle', 'Replication/SetThrottle', []),
  admin('shards.move', 'POST /v1/cluster/shards/:collection/:shard/move', 'Cluster/MoveShard', [
    'collection',
    'shard',
    'from',
    'to',
  ]),
  admin('verify.start', 'POST /v1/verify', 'Replication/Verify', ['collection', 'deep', 'repair']),
  admin('preflight.start', 'POST /v1/preflight', 'Cluster/Preflight', []),
  admin('jobs.cancel', 'DELETE /v1/jobs/:id', 'Cluster/CancelJob', ['id']),
  // They hold rows of any collection.
  needs('letters.list', ['cluster:admin'], {
    http: ['GET /v1/dead-letters'],
    grpc: ['Replication/ListDeadLetters'],
  }),
  needs('letters.get', ['cluster:admin'], {
    http: ['GET /v1/dead-letters/:id'],
    grpc: ['Replication/GetDeadLetter'],
  }),
  admin('letters.replay', 'POST /v1/dead-letters/:id/replay', 'Replication/ReplayDeadLetter', ['id']),
  admin('letters.discard', 'DELETE /v1/dead-letters/:id', 'Replication/DiscardDeadLetter', ['id']),
];

const operatingOperations: readonly Operation[] = [
  open('healthz', 'GET /healthz'),
  open('readyz', 'GET /readyz'),
  // The page itself holds no data; its calls do and need the key.
  open('page', 'GET /'),
  // What routes there are is no secret to whoever may call some of them.
  { name: 'document', callers: 'known', needs: [], http: ['GET /openapi.json'] },
  needs('metrics', seesCluster, { http: ['GET /metrics'], topology: true }),
  // Its list of conflicts is of all collections.
  needs('overview', seesCluster, { http: ['GET /v1/overview'], topology: true }),
];

export const operations: readonly Operation[] = [
  ...vectorOperations,
  ...collectionOperations,
  ...conflictOperations,
  ...clusterReads,
  ...clusterOperations,
  ...operatingOperations,
];

const byRoute: ReadonlyMap<string, Operation> = new Map(
  operations.flatMap((operation) => (operation.http ?? []).map((route) => [route, operation] as const)),
);
const byMethod: ReadonlyMap<string, Operation> = new Map(
  operations.flatMap((operation) =>
    (operation.grpc ?? []).map((method) => [`pgquorum.v1.${method}`, operation] as const),
  ),
);

/** `url` is the pattern of the route, as it was declared. */
export const operationOfRoute = (method: string, url: string): Operation | undefined =>
  byRoute.get(`${method === 'HEAD' ? 'GET' : method} ${url}`);

/** `path` is `<full service name>/<method>`. */
export const operationOfMethod = (path: string): Operation | undefined => byMethod.get(path);
