/** What a collection is: its definition as users give it, and its table as the generated SQL needs it. Pure. */
import type { ConflictRules } from './conflict-rules.ts';

export type VectorType = 'vector' | 'halfvec';
export type Metric = 'cosine' | 'l2' | 'inner-product' | 'l1';

export type IndexDefinition =
  { readonly type: 'hnsw'; readonly m: number; readonly efConstruction: number } | { readonly type: 'none' };

export interface CollectionDefinition {
  readonly dimension: number;
  readonly metric: Metric;
  readonly vectorType: VectorType;
  readonly shards: number;
  readonly writes: 'any';
  readonly conflicts: ConflictRules;
  readonly index: IndexDefinition;
}

export interface KeyColumn {
  readonly name: string;
  /** The column's type as SQL writes it, e.g. `text`, `bigint`, `uuid`. */
  readonly type: string;
}

/** A collection and the table that holds it. */
export interface CollectionTable {
  readonly collection: string;
  readonly schema: string;
  readonly table: string;
  readonly key: readonly KeyColumn[];
  readonly shards: number;
}

/** Largest dimension that pgvector's HNSW holds per type. */
export const indexDimensionMax: Readonly<Record<VectorType, number>> = { vector: 2000, halfvec: 4000 };
export const dimensionMax = 16_000;

/** The operator class and the distance operator of a metric. */
export const metricOperators: Readonly<
  Record<Metric, { readonly opclass: string; readonly operator: string }>
> = {
  cosine: { opclass: 'cosine_ops', operator: '<=>' },
  l2: { opclass: 'l2_ops', operator: '<->' },
  'inner-product': { opclass: 'ip_ops', operator: '<#>' },
  l1: { opclass: 'l1_ops', operator: '<+>' },
};

/** The table of a collection made by us: `public.<name>` with a text key. */
export const ownTable = (collection: string, shards: number): CollectionTable => ({
  collection,
  schema: 'public',
  table: collection,
  key: [{ name: 'id', type: 'text' }],
  shards,
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
