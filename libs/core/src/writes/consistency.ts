/** Options of writes and reads, as they come in a query. Pure. */
import { integerIn, oneOf, unknownField } from '../requests/fields.ts';
import { decodeToken, type Token } from './token.ts';
import { levels, type Consistency } from './levels.ts';

export const defaultTimeoutMs = 10_000;
const timeoutMsMax = 300_000;

export type QueryParameters = Readonly<Record<string, unknown>>;

export interface WriteOptions {
  readonly timeoutMs: number;
  readonly coordinator: 'primary' | 'nearest';
  /** Undefined when the request names none. */
  readonly level: Consistency | undefined;
  readonly onTimeout: 'fail' | 'degrade';
}

export interface ReadOptions {
  readonly timeoutMs: number;
  readonly level: Consistency;
  /** Open conflicts of the keys are shown too. */
  readonly siblings: boolean;
  /** What has to be seen. */
  readonly token: Token | null;
}

function checkParameters(query: QueryParameters, known: readonly string[]): void {
  for (const field of Object.keys(query)) if (!known.includes(field)) throw unknownField(field);
}

const parseLevel = (value: unknown): Consistency | undefined =>
  value === undefined ? undefined : oneOf('consistency', value, levels);

export const parseTimeout = (value: unknown): number =>
  value === undefined ? defaultTimeoutMs : integerIn('timeoutMs', value, { min: 1, max: timeoutMsMax });

export const parseToken = (value: unknown): Token | null => (value === undefined ? null : decodeToken(value));

export function parseWriteOptions(query: QueryParameters): WriteOptions {
  checkParameters(query, ['consistency', 'timeoutMs', 'coordinator', 'onTimeout']);
  return {
    level: parseLevel(query['consistency']),
    onTimeout:
      query['onTimeout'] === undefined ? 'fail' : oneOf('onTimeout', query['onTimeout'], ['fail', 'degrade']),
    timeoutMs: parseTimeout(query['timeoutMs']),
    coordinator:
      query['coordinator'] === undefined
        ? 'primary'
        : oneOf('coordinator', query['coordinator'], ['primary', 'nearest']),
  };
}

/** Reads are at ONE where they do not say more, whatever the level of writes is set to. */
export function parseReadOptions(query: QueryParameters): ReadOptions {
  checkParameters(query, ['consistency', 'timeoutMs', 'token', 'include']);
  const include = query['include'];
  const siblings = include !== undefined && oneOf('include', include, ['siblings']) === 'siblings';
  return {
    timeoutMs: parseTimeout(query['timeoutMs']),
    level: parseLevel(query['consistency']) ?? 'one',
    siblings,
    token: parseToken(query['token']),
  };
}
