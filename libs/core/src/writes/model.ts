/** The embedding model that a write names, by its place in the collection's list: versions carry the place as their rank. Pure. */
import { PgquorumError } from '../errors/error.ts';
import { invalid } from '../requests/fields.ts';

export interface NamedModel {
  readonly name: string;
  /** From 1; versions whose write named none have rank 0. */
  readonly rank: number;
}

export type Models = readonly string[] | undefined;

export function namedModel(value: unknown, models: Models): NamedModel | null {
  if (value === undefined) return null;
  if (typeof value !== 'string') throw invalid('model: must be a text');
  const place = models?.indexOf(value) ?? -1;
  if (place >= 0) return { name: value, rank: place + 1 };
  throw new PgquorumError(
    'model_unknown',
    models === undefined
      ? 'model: the collection lists no models'
      : `model: the collection lists ${models.length} models, and not this one`,
  );
}

/** Null when the version's write named no model, or the list that is known here does not reach that far. */
export const modelOfRank = (rank: number | null, models: readonly string[]): string | null =>
  rank === null ? null : (models[rank - 1] ?? null);

export const modelOutdated = (named: NamedModel, present: number, models: Models): PgquorumError =>
  new PgquorumError(
    'model_outdated',
    `model: the vector is of ${JSON.stringify(models?.[present - 1] ?? `model ${present}`)}, which comes after ${JSON.stringify(named.name)}`,
  );
