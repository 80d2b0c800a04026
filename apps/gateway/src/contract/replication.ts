/** Replication: its state and limits, members, events and changes. */
import { z } from 'zod';
import type { LimitsView } from '#core/bandwidth/limits.ts';
import { eventTypes } from '#core/events/event.ts';
import { addRequest } from '#core/membership/replica-request.ts';
import type { Edge } from '#core/topology/status.ts';
import type { ReplicaView } from '#core/topology/replica-status.ts';
import type { LagView } from '../operations/cluster.ts';
import {
  answer,
  collectionParam,
  emptyBody,
  inCollection,
  integer,
  nodeName,
  shows,
  time,
  type RouteContract,
} from './route.ts';
import { accepted } from './versions.ts';

const edgeStates = ['joining', 'syncing', 'active', 'lagging', 'paused', 'resync', 'down'] as const;

export const edge = shows<Edge>()(
  z
    .object({
      from: z.string(),
      to: z.string(),
      ms: z.number().nullable(),
      bytes: z.number().nullable(),
      kept: z.number().nullable(),
      changes: z.number().nullable(),
      parked: z.number().nullable(),
      parkedMs: z.number().nullable(),
      applied: z.string().nullable(),
      state: z.enum(edgeStates),
      problem: z.string().nullable(),
    })
    .meta({ id: 'Edge' }),
);
export const lag = shows<LagView>()(
  z.object({ maxMs: z.number().nullable(), edges: z.array(edge) }).meta({ id: 'Lag' }),
);
export const replica = shows<ReplicaView>()(
  z
    .object({
      id: z.string(),
      status: z.enum([...edgeStates, 'leaving']),
      lagMs: z.number().nullable(),
      lastSync: time.nullable(),
    })
    .meta({ id: 'Replica' }),
);
export const limits = shows<LimitsView>()(
  z
    .object({
      bytesPerSecond: z.number().nullable(),
      totalBytesPerSecond: z.number().nullable(),
      revision: z.string(),
    })
    .meta({ id: 'Throttle' }),
);

const bytesPerSecond = integer(1024, 1e12).nullable().optional();
export const throttleRequest = z
  .strictObject({ bytesPerSecond, totalBytesPerSecond: bytesPerSecond })
  .meta({ minProperties: 1 });
const revision = z.object({
  'If-Match': z.string().optional().describe('The `revision` that the limits have to have.'),
});

export const verifyRequest = z.strictObject({
  collection: collectionParam.optional(),
  deep: z.boolean().optional(),
  repair: z
    .string()
    .regex(/^(none|merge|prefer:[a-z][a-z0-9_-]{0,31})$/)
    .optional(),
});

const tag = 'replication';
const stream = (description: string) => ({
  200: { description, schema: z.string(), type: 'text/event-stream' },
});
const byNode = z.object({ node: nodeName });
const lastEventId = z.object({
  'Last-Event-ID': z.string().optional().describe('Goes on after the event with this id.'),
});

const stateRoutes: readonly RouteContract[] = [
  {
    tag,
    method: 'get',
    path: '/v1/replication/lag',
    id: 'getLag',
    summary: 'How far behind each edge is.',
    answers: answer('The edges.', lag),
  },
  {
    tag,
    method: 'get',
    path: '/v1/replication/replicas',
    id: 'listReplicas',
    summary: 'The replicas.',
    answers: answer('The replicas.', z.object({ items: z.array(replica) }).meta({ id: 'Replicas' })),
  },
  {
    tag,
    method: 'get',
    path: '/v1/replication/throttle',
    id: 'getThrottle',
    summary: 'How fast edges may read.',
    answers: answer('The limits.', limits),
  },
  {
    tag,
    method: 'put',
    path: '/v1/replication/throttle',
    id: 'setThrottle',
    summary: 'Sets how fast edges may read; what is left out stays, and null is no limit.',
    headers: revision,
    body: throttleRequest,
    answers: answer('The limits as they are now.', limits),
  },
];

const memberRoutes: readonly RouteContract[] = [
  {
    tag,
    method: 'post',
    path: '/v1/replication/replicas',
    id: 'addReplica',
    summary: 'Makes a database a node, while everything runs.',
    body: addRequest,
    answers: accepted,
  },
  {
    tag,
    method: 'delete',
    path: '/v1/replication/replicas/{node}',
    id: 'removeReplica',
    summary: 'Takes a node out of the cluster: after it has handed over what it has, or as one that is lost.',
    params: byNode,
    query: z.strictObject({
      lost: z.enum(['true', 'false']).optional(),
      topics: z.enum(['keep', 'delete']).optional(),
    }),
    answers: accepted,
  },
  {
    tag,
    method: 'post',
    path: '/v1/replication/replicas/{node}/sync',
    id: 'syncReplica',
    summary: 'Copies the states of all keys to a node, from all others.',
    params: byNode,
    body: emptyBody,
    bodyOptional: true,
    answers: accepted,
  },
];

const streamRoutes: readonly RouteContract[] = [
  {
    tag: 'streams',
    method: 'get',
    path: '/v1/events',
    id: 'streamEvents',
    summary: 'What happens in the cluster.',
    headers: lastEventId,
    query: z.strictObject({
      types: z
        .string()
        .optional()
        .describe(`A comma list of ${eventTypes.join(', ')}.`),
    }),
    answers: stream('Server-sent events.'),
  },
  {
    tag: 'streams',
    method: 'get',
    path: '/v1/changes/{collection}',
    id: 'streamChanges',
    summary: 'Every committed change of a collection.',
    params: inCollection,
    headers: lastEventId,
    query: z.strictObject({
      from: z.string().optional().describe('A position that the stream has given, `now` or `earliest`.'),
    }),
    answers: stream('Server-sent events: upsert, delete, conflict, position.'),
  },
];

const checkRoutes: readonly RouteContract[] = [
  {
    tag,
    method: 'post',
    path: '/v1/verify',
    id: 'verify',
    summary: 'Compares the masters, and mends what differs if it is told to.',
    body: verifyRequest,
    bodyOptional: true,
    answers: accepted,
  },
  {
    tag,
    method: 'post',
    path: '/v1/preflight',
    id: 'preflight',
    summary: 'Looks whether the databases have what replication needs.',
    body: emptyBody,
    bodyOptional: true,
    answers: accepted,
  },
];

export const replicationRoutes: readonly RouteContract[] = [
  ...stateRoutes,
  ...memberRoutes,
  ...streamRoutes,
  ...checkRoutes,
];
