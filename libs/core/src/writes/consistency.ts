/** Options of writes and reads. What is not available is refused, never weakened in silence. Pure. */
import { PgquorumError } from '../errors/error.ts';
import { integerIn, notSupported, oneOf, unknownField } from '../requests/fields.ts';

export type Consistency = 'one' | 'quorum' | 'all';

export const defaultTimeoutMs = 10_000;
const timeoutMsMax = 300_000;

export type QueryParameters = Readonly<Record<string, unknown>>;

export interface WriteOptions {
  readonly timeoutMs: number;
  readonly coordinator: 'primary' | 'nearest';
}

export interface ReadOptions {
  readonly timeoutMs: number;
  /** Open conflicts of the keys are shown too. */
  readonly siblings: boolean;
}

function checkParameters(query: QueryParameters, known: readonly string[]): void {
  for (const field of Object.keys(query)) if (!known.includes(field)) throw unknownField(field);
}

export function checkConsistency(value: unknown, fallback: Consistency): void {
  const level = value === undefined ? fallback : oneOf('consistency', value, ['one', 'quorum', 'all']);
  if (level !== 'one')
    throw new PgquorumError(
      'consistency_unsupported',
      `consistency=${level} is not available in this version, one is`,
    );
}

export const parseTimeout = (value: unknown): number =>
  value === undefined ? defaultTimeoutMs : integerIn('timeoutMs', value, { min: 1, max: timeoutMsMax });

export function parseWriteOptions(query: QueryParameters, fallback: Consistency): WriteOptions {
  checkParameters(query, ['consistency', 'timeoutMs', 'coordinator', 'onTimeout']);
  checkConsistency(query['consistency'], fallback);
  if (
    query['onTimeout'] !== undefined &&
    oneOf('onTimeout', query['onTimeout'], ['fail', 'degrade']) === 'degrade'
  )
    throw notSupported('onTimeout', 'there is nothing to degrade to at ONE');
  return {
    timeoutMs: parseTimeout(query['timeoutMs']),
    coordinator:
      query['coordinator'] === undefined
        ? 'primary'
        : oneOf('coordinator', query['coordinator'], ['primary', 'nearest']),
  };
}

/** Reads are at ONE whatever the level of writes is set to. */
export function parseReadOptions(query: QueryParameters): ReadOptions {
  checkParameters(query, ['consistency', 'timeoutMs', 'token', 'include']);
  checkConsistency(query['consistency'], 'one');
  if (query['token'] !== undefined) throw notSupported('token', 'tokens are not available in this version');
  const include = query['include'];
  const siblings = include !== undefined && oneOf('include', include, ['siblings']) === 'siblings';
  return { timeoutMs: parseTimeout(query['timeoutMs']), siblings };
}
