/** How a collection treats concurrent writes: the `conflicts` part of its definition, as users send it and as it may change. Pure. */
import { z } from 'zod';
import { PgquorumError } from '../errors/error.ts';
import { invalid } from '../requests/fields.ts';
import { crdtTypes, type CrdtFields } from '../versioning/crdt/field.ts';
import { crdtFieldsMax } from '../versioning/crdt/operation.ts';

export const strategies = ['lww', 'vector-clock', 'crdt', 'custom'] as const;
export type Strategy = (typeof strategies)[number];

export interface ConflictRules {
  readonly strategy: Strategy;
  /** Fields that are merged instead of one of them winning. */
  readonly crdt?: CrdtFields | undefined;
  /** `sql:<schema>.<function>` or `module:<file>` within the folder of resolvers. */
  readonly resolver?: string | undefined;
  /** Embedding models, oldest first, only ever appended to: a version's rank is the place of its model. */
  readonly models?: readonly string[] | undefined;
  /** Losing vectors within this cosine distance of the current one are shown as noise. */
  readonly cosineTolerance?: number | undefined;
}

/** A rank is a smallint. */
export const modelsMax = 1000;

const fieldName = /^[A-Za-z][A-Za-z0-9_-]{0,62}$/;
const resolver = z
  .string()
  .regex(
    /^(sql:[a-z_][a-z0-9_$]{0,62}\.[a-z_][a-z0-9_$]{0,62}|module:[A-Za-z0-9_][A-Za-z0-9_.-]{0,126})$/,
    'must be sql:<schema>.<function> or module:<file name>',
  );

export const conflictRulesSchema = z.strictObject({
  strategy: z.enum(strategies).optional(),
  crdt: z.record(z.string(), z.enum(crdtTypes)).optional(),
  resolver: resolver.optional(),
  models: z.array(z.string().min(1).max(200)).min(1).max(modelsMax).optional(),
  cosineTolerance: z.number().min(0).max(2).optional(),
});

export type ConflictRulesRequest = z.infer<typeof conflictRulesSchema>;

/** Fields that are not there stay away, so that equal rules are equal as JSON. */
export function conflictRules(
  request: ConflictRulesRequest | undefined,
  defaultStrategy: Strategy,
): ConflictRules {
  const { strategy = defaultStrategy, crdt, resolver: named, models, cosineTolerance } = request ?? {};
  const rules: ConflictRules = {
    strategy,
    ...(crdt === undefined || Object.keys(crdt).length === 0 ? {} : { crdt }),
    ...(named === undefined ? {} : { resolver: named }),
    ...(models === undefined ? {} : { models }),
    ...(cosineTolerance === undefined ? {} : { cosineTolerance }),
  };
  checkRules(rules);
  return rules;
}

function checkRules({ strategy, crdt, resolver: named, models }: ConflictRules): void {
  if (Object.keys(crdt ?? {}).length > crdtFieldsMax)
    throw invalid(`conflicts.crdt: at most ${crdtFieldsMax} fields`);
  for (const name of Object.keys(crdt ?? {})) {
    if (!fieldName.test(name))
      throw invalid(
        `conflicts.crdt: ${JSON.stringify(name.slice(0, 80))} must be a letter and up to 62 letters, digits, _ and -`,
      );
    // `constructor` and its like would be found where no field was declared.
    if (name in Object.prototype)
      throw invalid(`conflicts.crdt.${name}: must be another name, since each object has this one`);
  }
  if (strategy === 'crdt' && crdt === undefined)
    throw invalid('conflicts.crdt: the strategy crdt needs at least one field with its type');
  if (strategy !== 'crdt' && crdt !== undefined)
    throw invalid('conflicts.crdt: fields belong to the strategy crdt');
  if (strategy === 'custom' && named === undefined)
    throw new PgquorumError('resolver_missing', 'the strategy custom needs conflicts.resolver');
  if (strategy !== 'custom' && named !== undefined)
    throw invalid('conflicts.resolver: a resolver belongs to the strategy custom');
  if (new Set(models).size !== (models?.length ?? 0)) throw invalid('conflicts.models: names a model twice');
}

/**
 * Rules after a change: what is not named stays. Models may only be appended, since versions carry their places, and a CRDT field keeps its type,
 * since its states are of that type everywhere.
 */
export function changedRules(before: ConflictRules, change: ConflictRulesRequest): ConflictRules {
  const strategy = change.strategy ?? before.strategy;
  const models = change.models ?? before.models;
  if (before.models?.some((model, at) => models?.[at] !== model) === true)
    throw new PgquorumError(
      'models_not_extended',
      `conflicts.models: must begin with the ${before.models.length} models that the collection has`,
    );
  const crdt = change.crdt ?? (strategy === 'crdt' ? before.crdt : undefined);
  for (const [field, type] of Object.entries(crdt ?? {})) {
    const old = before.crdt?.[field];
    if (old !== undefined && old !== type)
      throw new PgquorumError('crdt_field_fixed', `conflicts.crdt.${field}: is of type ${old} and stays so`);
  }
  return conflictRules(
    {
      strategy,
      crdt: crdt === undefined ? undefined : { ...before.crdt, ...crdt },
      resolver: change.resolver ?? (strategy === 'custom' ? before.resolver : undefined),
      models: models === undefined ? undefined : [...models],
      cosineTolerance: change.cosineTolerance ?? before.cosineTolerance,
    },
    strategy,
  );
}
