/** The definition of a collection that is made of an existing table: what its columns say, and what the caller chose. Pure. */
import { PgquorumError } from '../errors/error.ts';
import type { AttachRequest } from './attach-request.ts';
import {
  metricOperators,
  metricsOf,
  type AttachedColumns,
  type CollectionDefinition,
  type CollectionTable,
  type IndexDefinition,
  type Metric,
  type VectorType,
} from './definition.ts';
import type { ExistingColumn, ExistingTable } from './existing-table.ts';
import { quoteName } from '../postgres/identifier.ts';

const vectorTypes: readonly string[] = ['vector', 'halfvec', 'sparsevec', 'bit'] satisfies VectorType[];
const isVector = (column: ExistingColumn): boolean =>
  vectorTypes.includes(column.baseType) && !column.isDomain && column.generated === '';

export function attachedDefinition(table: ExistingTable, request: AttachRequest): CollectionDefinition {
  const embedding = embeddingColumn(table, request.embedding);
  const vectorType = (embedding?.baseType ?? 'vector') as VectorType;
  const index = embedding === null ? null : indexOf(table, embedding);
  const metric = request.metric ?? index?.metric ?? metricsOf[vectorType][0];
  if (!metricsOf[vectorType].includes(metric))
    throw new PgquorumError('invalid_request', `metric: ${metric} does not fit ${vectorType}`);
  return {
    dimension: Math.max(0, embedding?.modifier ?? 0),
    metric,
    vectorType,
    shards: request.shards,
    writes: 'any',
    conflicts: request.conflicts,
    index: index?.metric === metric ? index.index : { type: 'none' },
    attached: {
      embedding: embedding?.name ?? null,
      metadata: metadataColumn(table, request.metadata),
      updatedAt: request.updatedAtColumn,
    } satisfies AttachedColumns,
  };
}

/** Bits may be flags: a column of them is taken for vectors only where it is named. */
function embeddingColumn(table: ExistingTable, named: string | undefined): ExistingColumn | null {
  if (named === undefined)
    return table.columns.find((column) => isVector(column) && column.baseType !== 'bit') ?? null;
  const found = table.columns.find(({ name }) => name === named);
  if (found === undefined || !isVector(found))
    throw new PgquorumError(
      'invalid_request',
      `embedding: ${quoteName(named)} is no column of vector, halfvec, sparsevec or bit that can be written`,
    );
  return found;
}

function metadataColumn(table: ExistingTable, named: string | undefined): string | null {
  const candidates = table.columns.filter((column) => column.baseType === 'jsonb' && column.generated === '');
  if (named === undefined)
    return (
      candidates.find(({ name }) => name === 'metadata')?.name ??
      (candidates.length === 1 ? candidates[0]!.name : null)
    );
  if (!candidates.some(({ name }) => name === named))
    throw new PgquorumError(
      'invalid_request',
      `metadata: ${quoteName(named)} is no column of jsonb that can be written`,
    );
  return named;
}

/** An HNSW index over the column alone, and the metric that it answers. */
function indexOf(
  table: ExistingTable,
  column: ExistingColumn,
): { readonly index: IndexDefinition; readonly metric: Metric } | null {
  for (const { definition } of table.indexes) {
    const [, operators] =
      new RegExp(
        String.raw` USING hnsw \((?:${escaped(column.name)}|${escaped(quoteName(column.name))}) (?:\w+\.)?\w+?_(\w+_ops)\)(?: WITH|$)`,
      ).exec(definition) ?? [];
    const metric = (Object.keys(metricOperators) as Metric[]).find(
      (one) => metricOperators[one].opclass === operators,
    );
    if (metric === undefined) continue;
    const option = (name: string, otherwise: number): number =>
      Number(new RegExp(String.raw`\b${name}='?(\d+)'?`).exec(definition)?.[1] ?? otherwise);
    return {
      metric,
      index: { type: 'hnsw', m: option('m', 16), efConstruction: option('ef_construction', 64) },
    };
  }
  return null;
}

const escaped = (text: string): string => text.replaceAll(/[.*+?^${}()|[\]\\]/g, String.raw`\$&`);

/** The table as generated SQL needs it. */
export function attachedTable(collection: string, table: ExistingTable, shards: number): CollectionTable {
  return {
    collection,
    schema: table.schema,
    table: table.name,
    shards,
    key: table.key!.columns.map((name) => {
      const { type, collation } = table.columns.find((column) => column.name === name)!;
      return { name, type, ...(collation === null ? {} : { collation: collation.name }) };
    }),
  };
}
