/** A search as users send it, checked. Pure. */
import type { CollectionDefinition, Metric } from '../collections/definition.ts';
import { PgquorumError } from '../errors/error.ts';
import { checkFields, integerIn, invalid, isObject, notSupported, oneOf } from '../requests/fields.ts';
import { isZero, parseEmbedding, type Embedding, type EmbeddingView } from '../writes/embedding.ts';
import { parseToken } from '../writes/consistency.ts';
import { checkKey } from '../writes/item.ts';
import type { Token } from '../writes/token.ts';

export const kMax = 10_000;
/** pgvector's own limit of hnsw.ef_search. */
export const efSearchMax = 1000;

export type Include = 'embedding' | 'metadata' | 'version' | 'crdt';

export interface SearchRequest {
  /** The vector to search near, or the id of a stored one. */
  readonly near:
    | { readonly kind: 'embedding'; readonly embedding: Embedding }
    | { readonly kind: 'id'; readonly id: string };
  readonly k: number;
  readonly filter: unknown;
  readonly efSearch: number | null;
  readonly include: readonly Include[];
  readonly maxDistance: number | null;
  /** Rather less than all shards than no answer. */
  readonly allowPartial: boolean;
  /** What has to be seen. */
  readonly token: Token | null;
}

const fields = [
  'embedding',
  'id',
  'k',
  'filter',
  'efSearch',
  'include',
  'maxDistance',
  'consistency',
  'allowPartial',
  'token',
];

export function parseSearch(body: unknown, definition: CollectionDefinition): SearchRequest {
  if (!isObject(body)) throw invalid('the body must be an object');
  checkFields(body, '', fields);
  const { consistency, allowPartial, maxDistance } = body;
  if (consistency !== undefined) oneOf('consistency', consistency, ['one', 'all-shards']);
  if (allowPartial !== undefined && typeof allowPartial !== 'boolean')
    throw invalid('allowPartial: must be true or false');
  if (maxDistance !== undefined && (typeof maxDistance !== 'number' || !Number.isFinite(maxDistance)))
    throw invalid('maxDistance: must be a finite number');
  return {
    near: parseNear(body, definition),
    k: body['k'] === undefined ? 10 : integerIn('k', body['k'], { min: 1, max: kMax }),
    filter: body['filter'] ?? null,
    efSearch: parseEfSearch(body['efSearch'], definition),
    include: parseInclude(body['include'], definition),
    maxDistance: maxDistance ?? null,
    allowPartial: allowPartial ?? false,
    token: parseToken(body['token']),
  };
}

function parseNear(
  body: Readonly<Record<string, unknown>>,
  definition: CollectionDefinition,
): SearchRequest['near'] {
  if ((body['embedding'] === undefined) === (body['id'] === undefined))
    throw invalid('either embedding or id must be given');
  if (body['id'] !== undefined) return { kind: 'id', id: checkKey(body['id']) };
  const { dimension, vectorType, metric } = definition;
  const embedding = parseEmbedding(body['embedding'], { dimension, vectorType });
  checkDirection(embedding, metric);
  return { kind: 'embedding', embedding };
}

export function checkDirection(embedding: Embedding | EmbeddingView, metric: Metric): void {
  if (metric === 'cosine' && isZero(embedding))
    throw new PgquorumError(
      'invalid_vector',
      'embedding: the zero vector has no direction, so nothing is near it by cosine',
    );
}

function parseEfSearch(value: unknown, definition: CollectionDefinition): number | null {
  if (value === undefined) return null;
  if (definition.index.type !== 'hnsw') throw notSupported('efSearch', 'the collection has no hnsw index');
  return integerIn('efSearch', value, { min: 1, max: efSearchMax });
}

function parseInclude(value: unknown, { conflicts }: CollectionDefinition): readonly Include[] {
  if (value === undefined) return ['metadata'];
  if (!Array.isArray(value)) throw invalid('include: must be an array');
  const include = new Set(
    value.map((one) => oneOf('include', one, ['embedding', 'metadata', 'version', 'crdt'])),
  );
  if (include.has('crdt') && conflicts.crdt === undefined)
    throw new PgquorumError('crdt_unknown_field', 'include: the collection declares no CRDT fields');
  return [...include];
}

/** Greater is nearer: the similarity where the distance is one minus it, the inner product, or 1 / (1 + distance). */
export function scoreOf(metric: Metric, distance: number): number {
  switch (metric) {
    case 'cosine':
    case 'jaccard':
      return 1 - distance;
    case 'inner-product':
      return -distance;
    case 'l2':
    case 'l1':
    case 'hamming':
      return 1 / (1 + distance);
  }
}
