/** Reading requests: what every verb checks in the same way, with errors that name the field. Pure. */
import type { z } from 'zod';
import { PgquorumError } from '../errors/error.ts';

export const invalid = (detail: string): PgquorumError => new PgquorumError('invalid_request', detail);

/** Prefixes the schemas' messages of values that are known but not available yet. */
export const notSupportedMark = 'not supported: ';

export const isObject = (value: unknown): value is Readonly<Record<string, unknown>> =>
  typeof value === 'object' && value !== null && !Array.isArray(value) && !ArrayBuffer.isView(value);

/** Parses with a schema; the first unknown field, then the first unsupported value, then the first invalid one is the error. */
export function parseWith<T extends z.ZodType>(schema: T, value: unknown): z.infer<T> {
  const parsed = schema.safeParse(value);
  if (parsed.success) return parsed.data;
  const issues = parsed.error.issues;
  const unknown = issues.find((issue) => issue.code === 'unrecognized_keys');
  if (unknown?.code === 'unrecognized_keys')
    throw unknownField([...unknown.path.map(String), unknown.keys[0]!].join('.'));
  const issue = issues.find((one) => one.message.startsWith(notSupportedMark)) ?? issues[0]!;
  const where = issue.path.length > 0 ? issue.path.map(String).join('.') : 'the body';
  if (issue.message.startsWith(notSupportedMark))
    throw notSupported(where, issue.message.slice(notSupportedMark.length));
  throw invalid(`${where}: ${issue.message}`);
}

export const unknownField = (path: string): PgquorumError =>
  new PgquorumError('unknown_field', `${path} is not a field of this request`);

export const notSupported = (field: string, what: string): PgquorumError =>
  new PgquorumError('not_supported', `${field}: ${what}`);

/** Refuses fields outside `known`; `later` are those that the contract has and this version does not. */
export function checkFields(
  value: Readonly<Record<string, unknown>>,
  path: string,
  known: readonly string[],
  later: Readonly<Record<string, string>> = {},
): void {
  for (const field of Object.keys(value)) {
    if (known.includes(field)) continue;
    const full = path === '' ? field : `${path}.${field}`;
    if (Object.hasOwn(later, field)) throw notSupported(full, later[field]!);
    throw unknownField(full);
  }
}

export function checkCollectionName(name: string): void {
  if (!/^[a-z][a-z0-9_]{0,47}$/.test(name))
    throw new PgquorumError('invalid_name', 'a collection name matches ^[a-z][a-z0-9_]{0,47}$');
}

/** A whole number in a range, from a query parameter's text or a JSON number. */
export function integerIn(
  field: string,
  value: unknown,
  range: { readonly min: number; readonly max: number },
): number {
  const number = typeof value === 'string' && /^\d{1,15}$/.test(value) ? Number(value) : value;
  if (typeof number !== 'number' || !Number.isInteger(number) || number < range.min || number > range.max)
    throw invalid(`${field}: must be a whole number from ${range.min} to ${range.max}`);
  return number;
}

export function oneOf<const T extends readonly string[]>(
  field: string,
  value: unknown,
  allowed: T,
): T[number] {
  if (typeof value !== 'string' || !allowed.includes(value))
    throw invalid(`${field}: must be one of ${allowed.join(', ')}`);
  return value;
}
