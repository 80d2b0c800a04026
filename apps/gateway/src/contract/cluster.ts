/** Nodes, shards, jobs, and what operators look at. */
import { z } from 'zod';
import { jobStates } from '#core/jobs/job.ts';
import type { JobList } from '#core/jobs/board.pg.ts';
import type { Health } from '#core/topology/status.ts';
import type { ClusterOperations } from '../operations/cluster.ts';
import { moveRequest, type ShardView } from '../operations/shards.ts';
import { conflict } from './conflicts.ts';
import { lag } from './replication.ts';
import { answer, inCollection, page, pageQuery, shows, time, uuid, type RouteContract } from './route.ts';
import { accepted, job } from './versions.ts';
import { key } from './vectors.ts';

export const node = shows<Awaited<ReturnType<ClusterOperations['nodes']>>[number]>()(
  z
    .object({
      id: z.string(),
      number: z.int(),
      zone: z.string(),
      status: z.enum(['alive', 'degraded', 'suspect', 'down', 'joining', 'leaving']),
      lastHeartbeat: time.nullable(),
      shards: z.int().nullable(),
      openConflicts: z.int().nullable(),
      deadLetters: z.int().nullable(),
      clockOffsetMs: z.number().nullable(),
      problem: z.literal('clock_drift').nullable(),
      primaryOf: z.int().nullable(),
    })
    .meta({ id: 'Node' }),
);
export const health = shows<Health>()(
  z
    .object({
      status: z.enum(['healthy', 'degraded', 'unavailable']),
      healthyNodes: z.int(),
      totalNodes: z.int(),
      problems: z.array(z.string()),
    })
    .meta({ id: 'Health' }),
);
export const shard = shows<ShardView>()(
  z
    .object({
      id: z.int(),
      primary: z.string().nullable(),
      replicas: z.array(z.string()),
      next: z.array(z.string()).optional(),
      status: z.enum(['active', 'moving', 'degraded', 'unavailable']),
    })
    .meta({ id: 'Shard' }),
);
export const shardOfKey = z
  .object({ shard: z.int(), primary: z.string().nullable(), replicas: z.array(z.string()) })
  .meta({ id: 'ShardOfKey' });
export const jobList = shows<JobList>()(
  page(job)
    .extend({ unreachable: z.array(z.string()).optional() })
    .meta({ id: 'Jobs' }),
);

const tag = 'cluster';
const shardsPath = '/v1/cluster/shards/{collection}';

const nodeRoutes: readonly RouteContract[] = [
  {
    tag,
    method: 'get',
    path: '/v1/cluster/nodes',
    id: 'listNodes',
    summary: 'The nodes.',
    answers: answer('The nodes, by number.', z.object({ items: z.array(node) }).meta({ id: 'Nodes' })),
  },
  {
    tag,
    method: 'get',
    path: '/v1/cluster/health',
    id: 'getHealth',
    summary: 'Whether all is well, and what is not.',
    answers: answer('The health of the cluster.', health),
  },
  {
    tag,
    method: 'get',
    path: shardsPath,
    id: 'listShards',
    summary: 'The shards of a collection, and who has them.',
    params: inCollection,
    answers: answer('By number.', z.object({ items: z.array(shard) }).meta({ id: 'Shards' })),
  },
  {
    tag,
    method: 'get',
    path: `${shardsPath}/of/{key}`,
    id: 'getShardOfKey',
    summary: 'The shard of a key.',
    params: inCollection.extend({ key }),
    answers: answer('The shard.', shardOfKey),
  },
  {
    tag,
    method: 'post',
    path: `${shardsPath}/{shard}/move`,
    id: 'moveShard',
    summary: 'Moves a shard from one node to another.',
    params: inCollection.extend({ shard: z.string().regex(/^(0|[1-9]\d{0,4})$/) }),
    body: moveRequest,
    answers: accepted,
  },
];

const byId = z.object({ id: uuid });

const jobRoutes: readonly RouteContract[] = [
  {
    tag: 'jobs',
    method: 'get',
    path: '/v1/jobs',
    id: 'listJobs',
    summary: 'Long work, the newest first.',
    query: z.strictObject({
      state: z.enum(jobStates).optional(),
      kind: z
        .string()
        .regex(/^[a-z][a-z0-9-]{0,47}$/)
        .optional(),
      ...pageQuery,
    }),
    answers: answer('A page.', jobList),
  },
  {
    tag: 'jobs',
    method: 'get',
    path: '/v1/jobs/{id}',
    id: 'getJob',
    summary: 'A job, with its progress and its result.',
    params: byId,
    answers: answer('The job.', job),
  },
  {
    tag: 'jobs',
    method: 'delete',
    path: '/v1/jobs/{id}',
    id: 'cancelJob',
    summary: 'Has a job end.',
    params: byId,
    answers: accepted,
  },
];

const operating = 'operating';
const text = (description: string, type: string) => ({ 200: { description, schema: z.string(), type } });

const operatingRoutes: readonly RouteContract[] = [
  {
    tag: operating,
    method: 'get',
    path: '/healthz',
    id: 'getProcess',
    summary: 'The process answers.',
    answers: answer('It does.', z.object({ status: z.literal('ok') })),
  },
  {
    tag: operating,
    method: 'get',
    path: '/readyz',
    id: 'getReadiness',
    summary:
      'Writes are taken, and what is written moves to the other nodes; 503 with the reasons otherwise.',
    answers: answer(
      'It is so.',
      z.object({ status: z.literal('ready'), problems: z.array(z.string()) }).meta({ id: 'Ready' }),
    ),
  },
  {
    tag: operating,
    method: 'get',
    path: '/metrics',
    id: 'getMetrics',
    summary: 'Metrics for Prometheus.',
    answers: text('The metrics.', 'text/plain'),
  },
  {
    tag: operating,
    method: 'get',
    path: '/v1/overview',
    id: 'getOverview',
    summary: 'What the page at / shows.',
    answers: answer(
      'The state of all.',
      z
        .object({
          at: time,
          health,
          nodes: z.array(node),
          lag,
          conflicts: z.array(
            conflict.pick({ id: true, collection: true, key: true, kind: true, foundAt: true }),
          ),
          written: z.int(),
        })
        .meta({ id: 'Overview' }),
    ),
  },
  {
    tag: operating,
    method: 'get',
    path: '/openapi.json',
    id: 'getDocument',
    summary: 'This document.',
    answers: answer('This document.', z.object({ openapi: z.string() })),
  },
  {
    tag: operating,
    method: 'get',
    path: '/',
    id: 'getDashboard',
    summary: 'A live page for browsers.',
    answers: text('The page.', 'text/html'),
  },
];

export const clusterRoutes: readonly RouteContract[] = [...nodeRoutes, ...jobRoutes, ...operatingRoutes];
