/** What a collection is: its definition as users give it, and its table as the generated SQL needs it. Pure. */
import type { Partitioned, RangePartitioning } from '../placement/partitioning.ts';
import type { Consistency } from '../writes/levels.ts';
import type { ConflictRules } from './conflict-rules.ts';

export type VectorType = 'vector' | 'halfvec' | 'sparsevec' | 'bit';
export type Metric = 'cosine' | 'l2' | 'inner-product' | 'l1' | 'hamming' | 'jaccard';

export type IndexDefinition =
  { readonly type: 'hnsw'; readonly m: number; readonly efConstruction: number } | { readonly type: 'none' };

/** Which columns of an attached table the gateway's routes are about; null where there is none. */
export interface AttachedColumns {
  readonly embedding: string | null;
  readonly metadata: string | null;
  /** The time of its row's last write, for rows that were there before. */
  readonly updatedAt: string | null;
}

export interface CollectionDefinition {
  /** 0 in an attached table whose column takes vectors of any dimension, or that has none. */
  readonly dimension: number;
  readonly metric: Metric;
  readonly vectorType: VectorType;
  readonly shards: number;
  /** By hash when left out. */
  readonly partitioning?: RangePartitioning;
  /** So many nodes hold each shard, by the shard map; every node holds all of them when left out. */
  readonly replicationFactor?: number;
  /** Writes of SQL clients to shards that their node does not hold: refused, or kept until the replicas have them when left out. */
  readonly nonHostWrites?: 'refuse';
  /** Of writes that name none. */
  readonly consistency?: Consistency;
  readonly writes: 'any';
  readonly conflicts: ConflictRules;
  readonly index: IndexDefinition;
  /** Set when the table existed before the collection. */
  readonly attached?: AttachedColumns;
}

export interface KeyColumn {
  readonly name: string;
  /** The column's type as SQL writes it, e.g. `text`, `bigint`, `uuid`. */
  readonly type: string;
  /** That of an attached table's column, as SQL writes it. Both tables need the same: an index answers only for its own. */
  readonly collation?: string;
}

/** A collection and the table that holds it. */
export interface CollectionTable {
  readonly collection: string;
  readonly schema: string;
  readonly table: string;
  readonly key: readonly KeyColumn[];
  readonly shards: number;
  readonly partitioning?: RangePartitioning | undefined;
  readonly nonHostWrites?: 'refuse' | undefined;
  /** As in the definition. */
  readonly attached?: AttachedColumns | undefined;
}

/** Largest dimension per type: pgvector's, but that of sparse vectors, which is ours, and that of bits, which is what its index holds. */
export const dimensionMax: Readonly<Record<VectorType, number>> = {
  vector: 16_000,
  halfvec: 16_000,
  sparsevec: 1_000_000,
  bit: 64_000,
};

/** Largest dimension that pgvector's HNSW holds per type. Of sparse vectors the elements count instead. */
export const indexDimensionMax: Readonly<Record<VectorType, number>> = {
  vector: 2000,
  halfvec: 4000,
  sparsevec: dimensionMax.sparsevec,
  bit: 64_000,
};

const numberMetrics = ['cosine', 'l2', 'inner-product', 'l1'] as const;

/** What each type can be searched by, the default first. */
export const metricsOf: Readonly<Record<VectorType, readonly [Metric, ...Metric[]]>> = {
  vector: numberMetrics,
  halfvec: numberMetrics,
  sparsevec: numberMetrics,
  bit: ['hamming', 'jaccard'],
};

/** A type in SQL, without its dimension. In quotes, since `bit` alone means one bit. */
export const typeSql: Readonly<Record<VectorType, string>> = {
  vector: 'public.vector',
  halfvec: 'public.halfvec',
  sparsevec: 'public.sparsevec',
  bit: 'pg_catalog."bit"',
};

/** The type as which the gateway sends embeddings: half precision is made by the server. */
export const sentTypes = ['vector', 'sparsevec', 'bit'] as const;
export type SentType = (typeof sentTypes)[number];
export const sentAs: Readonly<Record<VectorType, SentType>> = {
  vector: 'vector',
  halfvec: 'vector',
  sparsevec: 'sparsevec',
  bit: 'bit',
};

/** What was sent, as the column's type. */
export const castSql = (sent: string, type: VectorType): string =>
  sentAs[type] === type ? sent : `${sent}::${typeSql[type]}`;

/** The operator class and the distance operator of a metric. */
export const metricOperators: Readonly<
  Record<Metric, { readonly opclass: string; readonly operator: string }>
> = {
  cosine: { opclass: 'cosine_ops', operator: '<=>' },
  l2: { opclass: 'l2_ops', operator: '<->' },
  'inner-product': { opclass: 'ip_ops', operator: '<#>' },
  l1: { opclass: 'l1_ops', operator: '<+>' },
  hamming: { opclass: 'hamming_ops', operator: '<~>' },
  jaccard: { opclass: 'jaccard_ops', operator: '<%>' },
};

/** The table of a collection made by us: `public.<name>` with a text key. */
export const ownTable = (
  collection: string,
  { shards, partitioning, nonHostWrites }: Partitioned & Pick<CollectionTable, 'nonHostWrites'>,
): CollectionTable => ({
  collection,
  schema: 'public',
  table: collection,
  key: [{ name: 'id', type: 'text' }],
  shards,
  ...(partitioning === undefined ? {} : { partitioning }),
  ...(nonHostWrites === undefined ? {} : { nonHostWrites }),
});

/** Two definitions are the same when all their fields are. */
export const sameDefinition = (a: CollectionDefinition, b: CollectionDefinition): boolean =>
  JSON.stringify(canonical(a)) === JSON.stringify(canonical(b));

function canonical(value: unknown): unknown {
  if (value === null || typeof value !== 'object') return value;
  if (Array.isArray(value)) return value.map(canonical);
  return Object.fromEntries(
    Object.entries(value)
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map(([key, inner]) => [key, canonical(inner)]),
  );
}
