/** Vectors: writes, reads and search. */
import { z } from 'zod';
import type { StoredVector } from '#core/reads/stored-vector.ts';
import { kMax, efSearchMax } from '#core/search/request.ts';
import type { Match, SearchResult } from '#core/search/searcher.pg.ts';
import { levels } from '#core/writes/levels.ts';
import { keyBytesMax } from '#core/writes/item.ts';
import type { ItemResult } from '#core/writes/writer.pg.ts';
import { answer, ifMatch, inCollection, integer, shows, type RouteContract } from './route.ts';
import { embedding, embeddingRequest, itemProblem, metadataRequest, sibling, version } from './versions.ts';

export const key = z.string().min(1).max(keyBytesMax);
const timeoutMs = integer(1, 300_000).optional();
const level = z.enum(levels);
const consistency = level.optional();

const writeQuery = z.strictObject({
  consistency,
  timeoutMs,
  coordinator: z.enum(['primary', 'nearest']).optional(),
  onTimeout: z.enum(['fail', 'degrade']).optional(),
});
const token = z.string().describe('Of a write: what it wrote is seen.');
const readQuery = z.strictObject({
  consistency,
  timeoutMs,
  include: z.enum(['siblings']).optional(),
  token: token.optional(),
});

const idempotency = z.object({
  'Idempotency-Key': z
    .string()
    .min(1)
    .max(255)
    .optional()
    .describe('A repeat with the same key and body is not written twice, and gets the answer of the first.'),
});

const writtenFields = {
  id: z.string(),
  shard: z.int(),
  version,
  operation: z.object({ origin: z.string(), counter: z.string() }).optional(),
  coordinator: z.string(),
  acks: z.array(z.string()),
  reached: level.optional(),
};
export const written = shows<Exclude<ItemResult, { error: unknown }>>()(
  z.object(writtenFields).meta({ id: 'WrittenItem' }),
);
export const failedItem = z
  .object({ id: z.string().nullable(), error: itemProblem })
  .meta({ id: 'FailedItem' });

export const writeAnswer = z
  .object({
    results: z.array(z.union([written, failedItem])),
    consistency: level,
    token: z.string().nullable(),
  })
  .meta({ id: 'WriteAnswer' });
const writtenOne = z
  .object({ ...writtenFields, consistency: level, token: z.string().nullable() })
  .meta({ id: 'WrittenVector' });

export const storedVector = shows<StoredVector>()(
  z
    .object({
      id: z.string(),
      embedding: embedding.nullable(),
      metadata: z.unknown(),
      version: version.nullable(),
      node: z.string(),
      crdt: z.unknown().optional(),
      model: z.string().nullable().optional(),
      siblings: z.array(sibling).optional(),
    })
    .meta({ id: 'StoredVector' }),
);

const match = shows<Match>()(
  z
    .object({
      id: z.string(),
      distance: z.number(),
      score: z.number(),
      embedding: embedding.optional(),
      metadata: z.unknown().optional(),
      crdt: z.unknown().optional(),
      version: version.nullable().optional(),
    })
    .meta({ id: 'Match' }),
);
export const searchAnswer = shows<SearchResult>()(
  z
    .object({
      matches: z.array(match),
      shardsSearched: z.int(),
      shardsTotal: z.int(),
      partial: z.boolean(),
      nodes: z.array(z.string()),
    })
    .meta({ id: 'SearchAnswer' }),
);

export const vectorItem = z.strictObject({
  id: key,
  embedding: embeddingRequest.nullable(),
  metadata: metadataRequest.optional(),
  model: z.string().optional(),
});
export const upsertRequest = z.strictObject({ vectors: z.array(vectorItem) });
/** An id that is none has an error of its own, and the others their answers. */
export const idsRequest = z.strictObject({ ids: z.array(z.string()) });

const amount = z.int().min(0);
const operation = z.union([
  z.strictObject({ increment: amount }),
  z.strictObject({ decrement: amount }),
  z.strictObject({ add: z.union([z.string(), z.number(), z.boolean()]) }),
  z.strictObject({ remove: z.union([z.string(), z.number(), z.boolean()]) }),
  z.strictObject({ set: z.unknown() }),
]);
export const patchRequest = z
  .strictObject({
    metadata: metadataRequest.optional().describe('A merge patch.'),
    embedding: embeddingRequest.nullable().optional(),
    model: z.string().optional(),
    crdt: z.record(z.string(), operation).optional(),
  })
  .meta({ minProperties: 1 });

export const searchRequest = z
  .strictObject({
    embedding: embeddingRequest.optional(),
    id: key.optional(),
    k: integer(1, kMax).optional(),
    filter: z.record(z.string(), z.unknown()).nullable().optional(),
    efSearch: integer(1, efSearchMax).optional(),
    include: z.array(z.enum(['embedding', 'metadata', 'version', 'crdt'])).optional(),
    maxDistance: z.number().optional(),
    consistency: z.enum(['one', 'all-shards']).optional(),
    allowPartial: z.boolean().optional(),
    token: token.optional(),
  })
  .meta({ description: 'Near an embedding or near the vector of an id: one of the two.' });

const path = '/v1/collections/{collection}';
const one = inCollection.extend({ id: key });
const writing = { tag: 'vectors', query: writeQuery } as const;
const reading = { tag: 'vectors', query: readQuery } as const;

export const vectorRoutes: readonly RouteContract[] = [
  {
    ...writing,
    method: 'post',
    path: `${path}/vectors`,
    id: 'upsertVectors',
    summary:
      'Writes vectors. Each item has its own result; if all failed the answer is the error of the first.',
    params: inCollection,
    headers: idempotency,
    body: upsertRequest,
    answers: answer('A result for each item, in their order.', writeAnswer),
  },
  {
    ...writing,
    method: 'post',
    path: `${path}/vectors/delete`,
    id: 'deleteVectors',
    summary: 'Deletes vectors by their ids.',
    params: inCollection,
    headers: idempotency,
    body: idsRequest,
    answers: answer('A result for each id, in their order.', writeAnswer),
  },
  {
    ...reading,
    method: 'post',
    path: `${path}/vectors/get`,
    id: 'getVectors',
    summary: 'Reads vectors by their ids.',
    params: inCollection,
    body: idsRequest,
    answers: answer(
      'The vectors, in the order of the ids.',
      z.object({ items: z.array(z.union([storedVector, failedItem])) }).meta({ id: 'StoredVectors' }),
    ),
  },
  {
    ...reading,
    method: 'get',
    path: `${path}/vectors/{id}`,
    id: 'getVector',
    summary: 'Reads a vector. `ETag` is its version.',
    params: one,
    answers: answer('The vector.', storedVector),
  },
  {
    ...writing,
    method: 'patch',
    path: `${path}/vectors/{id}`,
    id: 'patchVector',
    summary: 'Merges into a vector and operates on its CRDT fields.',
    params: one,
    headers: idempotency.extend(ifMatch.shape),
    body: patchRequest,
    answers: answer('What it is now.', writtenOne),
  },
  {
    ...writing,
    method: 'delete',
    path: `${path}/vectors/{id}`,
    id: 'deleteVector',
    summary: 'Deletes a vector.',
    params: one,
    headers: idempotency,
    answers: answer('The version of its deletion.', writtenOne),
  },
  {
    tag: 'search',
    method: 'post',
    path: `${path}/search`,
    id: 'search',
    summary: 'The k nearest vectors.',
    params: inCollection,
    query: z.strictObject({ timeoutMs }),
    body: searchRequest,
    answers: answer('The nearest first.', searchAnswer),
  },
];
