/**
 * Operations on CRDT fields as users send them, `{field: {increment | decrement: n} | {add | remove: v} | {set: v}}`, and what is wrong with one. Pure.
 * Outcomes are values; the codes are those that the SQL functions raise as SQLSTATE.
 */
import { isObject } from '../../requests/fields.ts';
import { isRawNumber } from '../../requests/lossless-json.ts';
import type { CrdtFields, CrdtType } from './field.ts';
import { isAmount } from './g-counter.ts';
import type { Json } from './lww-register.ts';
import { elementBytesMax, elementText, type Element } from './or-set.ts';

export type Operation =
  | { readonly increment: number }
  | { readonly decrement: number }
  | { readonly add: Element }
  | { readonly remove: Element }
  | { readonly set: Json };
/** At most one operation a field. */
export type Operations = { readonly [field: string]: Operation };
export type Verb = 'increment' | 'decrement' | 'add' | 'remove' | 'set';

export type CrdtProblemCode =
  'crdt_unknown_field' | 'crdt_wrong_operation' | 'crdt_bad_value' | 'crdt_overflow';

/** What pgquorum.crdt_apply and its callers raise. */
export const crdtSqlStates: Readonly<Record<string, CrdtProblemCode>> = {
  PQ003: 'crdt_unknown_field',
  PQ004: 'crdt_wrong_operation',
  PQ005: 'crdt_bad_value',
  PQ006: 'crdt_overflow',
};

export interface CrdtProblem {
  readonly code: CrdtProblemCode;
  /** Null when it is not about one field. */
  readonly field: string | null;
  readonly detail: string;
}

export type ParsedOperations =
  | { readonly ok: true; readonly operations: Operations }
  | { readonly ok: false; readonly problem: CrdtProblem };

export const verbsOf: Readonly<Record<CrdtType, readonly Verb[]>> = {
  'g-counter': ['increment'],
  'pn-counter': ['increment', 'decrement'],
  'lww-register': ['set'],
  'or-set': ['add', 'remove'],
};

export const registerBytesMax = 64 * 1024;
export const registerLevelsMax = 64;

/** The member `crdt` of a request's body. The first field that is wrong, in the order of their names, is the problem. */
export function parseOperations(body: unknown, fields: CrdtFields): ParsedOperations {
  const refused = (problem: CrdtProblem): ParsedOperations => ({ ok: false, problem });
  if (!isObject(body) || isRawNumber(body))
    return refused(badValue(null, 'crdt: must be an object, field name to operation'));
  const names = Object.keys(body).sort();
  if (names.length === 0) return refused(badValue(null, 'crdt: names no field'));
  for (const field of names) {
    const problem = operationProblem(field, body[field], fields);
    if (problem !== null) return refused(problem);
  }
  return { ok: true, operations: body as Operations };
}

/** What is wrong with one operation, or null. */
export function operationProblem(field: string, operation: unknown, fields: CrdtFields): CrdtProblem | null {
  const type = Object.hasOwn(fields, field) ? fields[field] : undefined;
  if (type === undefined)
    return {
      code: 'crdt_unknown_field',
      field,
      detail: `crdt.${field}: the collection declares no such field`,
    };
  if (!isObject(operation) || isRawNumber(operation) || Object.keys(operation).length !== 1)
    return wrongOperation(field, type);
  const verb = Object.keys(operation)[0] as Verb;
  if (!verbsOf[type].includes(verb)) return wrongOperation(field, type);
  const problem = valueProblem(verb, operation[verb]);
  return problem === null ? null : badValue(field, `crdt.${field}.${verb}: ${problem}`);
}

const badValue = (field: string | null, detail: string): CrdtProblem => ({
  code: 'crdt_bad_value',
  field,
  detail,
});

const wrongOperation = (field: string, type: CrdtType): CrdtProblem => ({
  code: 'crdt_wrong_operation',
  field,
  detail: `crdt.${field}: a ${type} takes an object with one of ${verbsOf[type].join(', ')}`,
});

function valueProblem(verb: Verb, value: unknown): string | null {
  switch (verb) {
    case 'increment':
    case 'decrement':
      return isAmount(value) ? null : 'must be a whole number from 1 to 9007199254740991';
    case 'add':
    case 'remove':
      return elementText(value) === null
        ? `must be a text of at most ${elementBytesMax} bytes as JSON, a boolean, or a whole number of at most 9007199254740991`
        : null;
    case 'set':
      return registerProblem(value, 1) ?? sizeProblem(value);
  }
}

const sizeProblem = (value: unknown): string | null =>
  Buffer.byteLength(JSON.stringify(value)) > registerBytesMax
    ? `is larger than ${registerBytesMax} bytes`
    : null;

/** What jsonb can not hold, and numbers that one master would round and another not. */
function registerProblem(value: unknown, level: number): string | null {
  if (value === undefined) return 'is missing';
  if (typeof value === 'string') return textProblem(value);
  if (typeof value === 'number') return Number.isFinite(value) ? null : 'has a number that is not finite';
  if (typeof value === 'boolean' || value === null) return null;
  if (typeof value !== 'object') return 'must be JSON';
  if (isRawNumber(value)) return 'has a number of more digits than a double holds';
  if (level > registerLevelsMax) return `has more than ${registerLevelsMax} levels`;
  for (const [key, inner] of Object.entries(value)) {
    const problem = textProblem(key) ?? registerProblem(inner, level + 1);
    if (problem !== null) return problem;
  }
  return null;
}

function textProblem(text: string): string | null {
  if (text.includes('\0')) return 'has the character NUL';
  return text.isWellFormed() ? null : 'has half of a surrogate pair';
}

export const crdtFieldsMax = 64;
