/** Collections and the tables behind them. */
import { z } from 'zod';
import { attachRequest } from '#core/collections/attach-request.ts';
import { strategies } from '#core/collections/conflict-rules.ts';
import { changeRequest, definitionRequest } from '#core/collections/definition-request.ts';
import type { CollectionDefinition } from '#core/collections/definition.ts';
import { ddlRequest } from '#core/ddl/request.ts';
import { levels } from '#core/writes/levels.ts';
import { crdtTypes } from '#core/versioning/crdt/field.ts';
import type { CollectionView, MeasuredCollectionView } from '../operations/collections.ts';
import { answer, named, nothing, shows, time, type RouteContract } from './route.ts';
import { accepted, startedJob } from './versions.ts';

export const definition = shows<CollectionDefinition>()(
  z
    .object({
      dimension: z.int(),
      metric: z.enum(['cosine', 'l2', 'inner-product', 'l1', 'hamming', 'jaccard']),
      vectorType: z.enum(['vector', 'halfvec', 'sparsevec', 'bit']),
      shards: z.int(),
      partitioning: z.object({ type: z.literal('range'), splitPoints: z.array(z.string()) }).optional(),
      replicationFactor: z.int().optional(),
      nonHostWrites: z.literal('refuse').optional(),
      consistency: z.enum(levels).optional(),
      writes: z.literal('any'),
      conflicts: z.object({
        strategy: z.enum(strategies),
        crdt: z.record(z.string(), z.enum(crdtTypes)).optional(),
        resolver: z.string().optional(),
        models: z.array(z.string()).optional(),
        cosineTolerance: z.number().optional(),
      }),
      index: z.union([
        z.object({ type: z.literal('hnsw'), m: z.int(), efConstruction: z.int() }),
        z.object({ type: z.literal('none') }),
      ]),
      attached: z
        .object({
          embedding: z.string().nullable(),
          metadata: z.string().nullable(),
          updatedAt: z.string().nullable(),
        })
        .optional(),
    })
    .meta({ id: 'CollectionDefinition' }),
);

const fields = { name: z.string(), definition, shards: z.int(), createdAt: time };
export const collection = shows<CollectionView>()(z.object(fields).meta({ id: 'Collection' }));
export const measuredCollection = shows<MeasuredCollectionView>()(
  z.object({ ...fields, rows: z.int(), bytes: z.int() }).meta({ id: 'MeasuredCollection' }),
);

export const attachAnswer = startedJob
  .extend({ created: z.array(z.string()), warnings: z.array(z.string()) })
  .meta({ id: 'Attached' });

const tag = 'collections';
const path = '/v1/collections/{name}';

export const collectionRoutes: readonly RouteContract[] = [
  {
    tag,
    method: 'get',
    path: '/v1/collections',
    id: 'listCollections',
    summary: 'All collections.',
    answers: answer('By name.', z.object({ items: z.array(collection) }).meta({ id: 'Collections' })),
  },
  {
    tag,
    method: 'get',
    path,
    id: 'getCollection',
    summary: 'A collection, with its rows and bytes.',
    params: named,
    answers: answer('The collection.', measuredCollection),
  },
  {
    tag,
    method: 'put',
    path,
    id: 'putCollection',
    summary: 'Makes a collection on every node. Repeating it finishes what was begun.',
    params: named,
    body: definitionRequest,
    answers: {
      200: { description: 'It was there, with this definition.', schema: collection },
      201: { description: 'It was made.', schema: collection },
    },
  },
  {
    tag,
    method: 'patch',
    path,
    id: 'changeCollection',
    summary: 'Changes the rules for conflicts on all nodes.',
    params: named,
    body: changeRequest,
    answers: answer('The collection as it is now.', collection),
  },
  {
    tag,
    method: 'delete',
    path,
    id: 'dropCollection',
    summary: 'Drops a collection with its rows.',
    params: named,
    answers: nothing,
  },
  {
    tag,
    method: 'post',
    path: `${path}/attach`,
    id: 'attachTable',
    summary: 'Makes an existing table a collection; its rows follow in a job.',
    params: named,
    body: attachRequest,
    answers: {
      202: { description: 'It is a collection; the job brings its rows to all nodes.', schema: attachAnswer },
    },
  },
  {
    tag,
    method: 'post',
    path: `${path}/detach`,
    id: 'detachTable',
    summary: 'Gives a table back as it was, with its rows.',
    params: named,
    answers: nothing,
  },
  {
    tag,
    method: 'post',
    path: `${path}/ddl`,
    id: 'alterTable',
    summary: '`alter table`, `create index` or `drop index` on all nodes, in a safe order.',
    params: named,
    body: ddlRequest,
    answers: accepted,
  },
];
