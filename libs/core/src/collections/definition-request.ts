/** A collection's definition as users send it: defaults, checks, and a clear refusal of what this version can not do. Pure. */
import { z } from 'zod';
import { PgquorumError } from '../errors/error.ts';
import { invalid, isObject, notSupported, notSupportedMark, parseWith } from '../requests/fields.ts';
import { splitPointsProblem, type RangePartitioning } from '../placement/partitioning.ts';
import { checkAttachedRules } from './attach-request.ts';
import { changedRules, conflictRules, conflictRulesSchema, type Strategy } from './conflict-rules.ts';
import { levels } from '../writes/levels.ts';
import {
  dimensionMax,
  indexDimensionMax,
  metricsOf,
  type CollectionDefinition,
  type IndexDefinition,
} from './definition.ts';

/** One of `now`, or a refusal that tells a value of the contract from a mistake. */
const choice = <const T extends readonly [string, ...string[]]>(now: T, later: readonly string[]) =>
  z
    .string()
    .superRefine((value, context) => {
      if (now.includes(value)) return;
      const has = `one of ${now.join(', ')}`;
      context.addIssue({
        code: 'custom',
        message: later.includes(value)
          ? `${notSupportedMark}${value} is not available in this version, ${has} is`
          : `must be ${has}`,
      });
    })
    .meta({ enum: now }) as unknown as z.ZodType<T[number], T[number]>;

const shardsMax = 4096;
const integer = (min: number, max: number) => z.number().int().min(min).max(max);

export const definitionRequest = z.strictObject({
  dimension: integer(1, Math.max(...Object.values(dimensionMax))),
  metric: choice(['cosine', 'l2', 'inner-product', 'l1', 'hamming', 'jaccard'], []).optional(),
  vectorType: choice(['vector', 'halfvec', 'sparsevec', 'bit'], []).default('vector'),
  shards: integer(1, shardsMax).optional(),
  replicationFactor: integer(1, 64).optional(),
  partitioning: z
    .strictObject({ type: choice(['hash', 'range'], []), splitPoints: z.array(z.string()).optional() })
    .optional(),
  nonHostWrites: choice(['accept', 'refuse'], []).optional(),
  consistency: choice(levels, []).optional(),
  writes: choice(['any'], ['leased']).default('any'),
  conflicts: conflictRulesSchema.optional(),
  index: z
    .strictObject({
      type: choice(['hnsw', 'none'], ['ivfflat']).default('hnsw'),
      m: integer(2, 100).optional(),
      efConstruction: integer(4, 1000).optional(),
      lists: z.unknown().optional(),
    })
    .optional(),
});

export interface DefinitionDefaults {
  readonly shards: number;
  readonly strategy: Strategy;
  /** Where the request names none; all nodes when left out. */
  readonly replicationFactor?: number | undefined;
  /** The nodes that can hold shards. */
  readonly nodes: number;
}

export function parseDefinition(body: unknown, defaults: DefinitionDefaults): CollectionDefinition {
  if (!isObject(body))
    throw new PgquorumError('invalid_request', 'the body must be an object with the definition');
  const value = parseWith(definitionRequest, body);
  const partitioning = rangeOf(value);
  const definition = {
    dimension: value.dimension,
    metric: value.metric ?? metricsOf[value.vectorType][0],
    vectorType: value.vectorType,
    shards:
      partitioning === undefined ? (value.shards ?? defaults.shards) : partitioning.splitPoints.length + 1,
    ...(partitioning === undefined ? {} : { partitioning }),
    ...heldBy(value, defaults),
    ...(value.consistency === undefined ? {} : { consistency: value.consistency }),
    writes: value.writes,
    conflicts: conflictRules(value.conflicts, defaults.strategy),
    index: parseIndex(value.index),
  };
  checkType(definition);
  checkIndexable(definition);
  return definition;
}

/** Undefined when it is by hash. */
function rangeOf({ partitioning, shards }: z.infer<typeof definitionRequest>): RangePartitioning | undefined {
  const points = partitioning?.splitPoints;
  if (partitioning?.type !== 'range') {
    if (points !== undefined) throw invalid('partitioning.splitPoints: belong to the type range');
    return undefined;
  }
  if (points === undefined || points.length === 0)
    throw invalid('partitioning.splitPoints: at least one is needed; one shard more than points is made');
  if (points.length >= shardsMax) throw invalid(`partitioning.splitPoints: at most ${shardsMax - 1}`);
  const problem = splitPointsProblem(points);
  if (problem !== null) throw invalid(`partitioning.${problem}`);
  if (shards !== undefined && shards !== points.length + 1)
    throw invalid(`shards: ${points.length} split points make ${points.length + 1}`);
  return { type: 'range', splitPoints: points };
}

/** Nothing where every node holds every shard: such a collection has no shard map. */
function heldBy(
  value: z.infer<typeof definitionRequest>,
  defaults: DefinitionDefaults,
): Pick<CollectionDefinition, 'replicationFactor' | 'nonHostWrites'> {
  const replicationFactor = value.replicationFactor ?? defaults.replicationFactor;
  if (replicationFactor === undefined || replicationFactor >= defaults.nodes) return {};
  if ((value.conflicts?.strategy ?? defaults.strategy) === 'crdt')
    throw notSupported(
      'replicationFactor',
      `every node holds every shard of a collection with CRDT fields in this version, so it is at least ${defaults.nodes}`,
    );
  return {
    replicationFactor,
    ...(value.nonHostWrites === 'refuse' ? { nonHostWrites: 'refuse' as const } : {}),
  };
}

export const changeRequest = z.strictObject({
  consistency: choice(levels, []).optional(),
  conflicts: conflictRulesSchema.optional(),
  index: z.unknown().optional(),
  writes: z.unknown().optional(),
});

/** The definition after a change of what may change. */
export function parseChange(body: unknown, before: CollectionDefinition): CollectionDefinition {
  if (!isObject(body))
    throw new PgquorumError('invalid_request', 'the body must be an object with what changes');
  const change = parseWith(changeRequest, body);
  for (const field of ['index', 'writes'] as const)
    if (change[field] !== undefined)
      throw notSupported(field, 'only conflicts and consistency can be changed in this version');
  const after = {
    ...before,
    ...(change.consistency === undefined ? {} : { consistency: change.consistency }),
    conflicts: changedRules(before.conflicts, change.conflicts ?? {}),
  };
  if (before.attached !== undefined) checkAttachedRules(after.conflicts);
  if (before.replicationFactor !== undefined && after.conflicts.strategy === 'crdt')
    throw notSupported(
      'conflicts.strategy',
      'every node holds every shard of a collection with CRDT fields in this version, and those of this one are held by fewer',
    );
  checkType(after);
  return after;
}

function parseIndex(index: z.infer<typeof definitionRequest>['index']): IndexDefinition {
  if (index?.lists !== undefined)
    throw notSupported('index.lists', 'ivfflat is not available in this version');
  if (index?.type === 'none') {
    if (index.m !== undefined || index.efConstruction !== undefined)
      throw new PgquorumError('invalid_request', 'index: m and efConstruction belong to hnsw');
    return { type: 'none' };
  }
  const m = index?.m ?? 16;
  const efConstruction = index?.efConstruction ?? 64;
  if (efConstruction < 2 * m)
    throw new PgquorumError('invalid_request', `index.efConstruction: must be at least twice m (${2 * m})`);
  return { type: 'hnsw', m, efConstruction };
}

/** What fits some types and not others. */
function checkType({ vectorType, dimension, metric, conflicts }: CollectionDefinition): void {
  const metrics = metricsOf[vectorType];
  if (!metrics.includes(metric))
    throw invalid(`metric: ${metric} does not fit ${vectorType}, one of ${metrics.join(', ')} does`);
  const max = dimensionMax[vectorType];
  if (dimension > max) throw invalid(`dimension: ${vectorType} has at most ${max} dimensions`);
  if (vectorType === 'bit' && conflicts.cosineTolerance !== undefined)
    throw invalid('conflicts.cosineTolerance: vectors of bits have no cosine distance');
}

function checkIndexable({ index, vectorType, dimension }: CollectionDefinition): void {
  const max = indexDimensionMax[vectorType];
  if (index.type === 'hnsw' && dimension > max) {
    throw new PgquorumError(
      'dimension_not_indexable',
      `hnsw holds ${vectorType} up to ${max} dimensions, not ${dimension}`,
    );
  }
}
