/** Results of items as HTTP shows them. */
import { PgquorumError } from '#core/errors/error.ts';
import type { ReadResult } from '#core/reads/stored-vector.ts';
import type { ItemResult } from '#core/writes/writer.pg.ts';
import type { WriteAnswer } from '../operations/vectors.ts';
import { problemOf } from './problem.ts';

const showItem = <T extends ItemResult | ReadResult>(result: T) =>
  'error' in result
    ? { id: result.id, error: { ...problemOf(result.error), ...result.error.extra } }
    : result;

/** When no item was written the whole request failed, with the status of the first. */
export function showWrite({ results, consistency, token }: WriteAnswer): object {
  const shown = results.map(showItem);
  const [first] = results;
  if (first !== undefined && 'error' in first && results.every((result) => 'error' in result)) {
    throw new PgquorumError(first.error.code, first.error.detail, {
      cause: first.error,
      extra: { ...first.error.extra, results: shown },
    });
  }
  return { results: shown, consistency, token };
}

export const showReads = (results: readonly ReadResult[]): object => ({ items: results.map(showItem) });
