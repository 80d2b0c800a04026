/**
 * Metadata filters -> SQL conditions with bound values. Pure.
 *
 * `{field: value}` is equality; a field may be a path, `a.b`. Comparisons hold only between values of one type: `{"age": {"$gt": 5}}` does not match the
 * text "6". Texts compare by code point, the same on every node whatever its collation. `$ne` and `$not` match where the field is missing.
 *
 * In a collection with CRDT fields `crdt.views` is the value of the field `views`, and `crdt.title.de` is within a register. Every other path is metadata.
 */
import type { CrdtFields } from '../versioning/crdt/field.ts';
import { PgquorumError } from '../errors/error.ts';
import { checkJson } from '../writes/item.ts';
import { invalid, isObject, unknownField } from '../requests/fields.ts';
import { isRawNumber } from '../requests/lossless-json.ts';

const levelsMax = 16;
const conditionsMax = 256;

/** Takes a value and gives its placeholder, e.g. `$3`. */
export type Bind = (value: unknown) => string;

export interface FilterTarget {
  readonly bind: Bind;
  /** The column of the metadata. */
  readonly column: string;
  /** CRDT fields with their types, and the SQL of their state. */
  readonly crdt?: { readonly fields: CrdtFields; readonly state: string } | undefined;
}

interface State extends FilterTarget {
  conditions: number;
}

export const compileFilter = (filter: unknown, target: FilterTarget): string =>
  compileObject(filter, { ...target, conditions: 0 }, 'filter', 1);

function compileObject(filter: unknown, state: State, path: string, level: number): string {
  if (!isObject(filter) || isRawNumber(filter)) throw invalid(`${path}: must be an object`);
  if (level > levelsMax) throw invalid(`${path}: is nested more than ${levelsMax} levels deep`);
  const parts = Object.entries(filter).map(([key, value]) => {
    const here = `${path}.${key}`;
    if (key === '$and' || key === '$or') return compileList(key, value, state, here, level);
    if (key === '$not') return `not coalesce(${compileObject(value, state, here, level + 1)}, false)`;
    if (key.startsWith('$')) throw unknownField(here);
    return compileField(key, value, state, here);
  });
  return parts.length === 0 ? 'true' : `(${parts.join(' and ')})`;
}

function compileList(key: '$and' | '$or', value: unknown, state: State, path: string, level: number): string {
  if (!Array.isArray(value) || value.length === 0)
    throw invalid(`${path}: must be an array with at least one filter`);
  const parts = value.map((one, at) => compileObject(one, state, `${path}.${at}`, level + 1));
  return `(${parts.join(key === '$and' ? ' and ' : ' or ')})`;
}

const isOperators = (value: unknown): value is Readonly<Record<string, unknown>> =>
  isObject(value) && !isRawNumber(value) && Object.keys(value).some((key) => key.startsWith('$'));

function compileField(field: string, value: unknown, state: State, path: string): string {
  const names = field.split('.');
  if (names.some((name) => name === '')) throw invalid(`${path}: is no field`);
  checkValue(names, path);
  const where = placeOf(names, state, path);
  if (!isOperators(value)) return compileOperator({ ...where, operator: '$eq', operand: value, state, path });
  return `(${Object.entries(value)
    .map(([operator, operand]) =>
      compileOperator({ ...where, operator, operand, state, path: `${path}.${operator}` }),
    )
    .join(' and ')})`;
}

/** The SQL of a JSON document, and the path within it. */
interface Place {
  readonly document: string;
  readonly names: readonly string[];
  /** Whether the document is a column, which an index may serve. */
  readonly isColumn: boolean;
}

function placeOf(names: readonly string[], { bind, column, crdt }: State, path: string): Place {
  const [first, field, ...rest] = names;
  if (crdt === undefined || first !== 'crdt' || field === undefined)
    return { document: column, names, isColumn: true };
  const type = Object.hasOwn(crdt.fields, field) ? crdt.fields[field] : undefined;
  if (type === undefined)
    throw new PgquorumError('crdt_unknown_field', `${path}: the collection declares no such CRDT field`);
  return {
    document: `pgquorum.crdt_value(${crdt.state}, ${bind(field)}::text, ${bind(type)}::text)`,
    names: rest,
    isColumn: false,
  };
}

interface Comparison extends Place {
  readonly operator: string;
  readonly operand: unknown;
  readonly state: State;
  readonly path: string;
}

const orders: Readonly<Record<string, string>> = { $gt: '>', $gte: '>=', $lt: '<', $lte: '<=' };

function compileOperator(comparison: Comparison): string {
  const { document, names, operator, operand, state, path } = comparison;
  state.conditions += 1;
  if (state.conditions > conditionsMax) throw invalid(`filter: has more than ${conditionsMax} conditions`);
  checkValue(operand, path);
  const field = () => `(${document} #> ${state.bind(names)}::text[])`;
  const json = (value: unknown) => `${state.bind(JSON.stringify(value))}::jsonb`;
  switch (operator) {
    case '$eq':
      return equals(comparison);
    case '$ne':
      return `not coalesce(${equals(comparison)}, false)`;
    case '$in':
      if (!Array.isArray(operand)) throw invalid(`${path}: must be an array`);
      return `coalesce(${field()} = any(${state.bind(operand.map((one) => JSON.stringify(one)))}::jsonb[]), false)`;
    case '$exists':
      if (typeof operand !== 'boolean') throw invalid(`${path}: must be true or false`);
      return `${field()} is ${operand ? 'not ' : ''}null`;
    case '$contains':
      return `coalesce(jsonb_typeof(${field()}) = 'array' and ${field()} @> ${json([operand])}, false)`;
    case '$gt':
    case '$gte':
    case '$lt':
    case '$lte':
      return compare(comparison, orders[operator]!);
    default:
      throw unknownField(path);
  }
}

/** Scalars by containment, which an index on the metadata can answer; arrays and objects by equality. */
function equals({ document, names, isColumn, operand, state }: Comparison): string {
  const isScalar = typeof operand !== 'object' || operand === null || isRawNumber(operand);
  if (!isScalar || !isColumn)
    return `coalesce((${document} #> ${state.bind(names)}::text[]) = ${state.bind(JSON.stringify(operand))}::jsonb, false)`;
  const nested = names.reduceRight<string>(
    (inner, name) => `{${JSON.stringify(name)}:${inner}}`,
    JSON.stringify(operand),
  );
  return `${document} @> ${state.bind(nested)}::jsonb`;
}

function compare({ document, names, operand, state, path }: Comparison, order: string): string {
  const field = `(${document} #> ${state.bind(names)}::text[])`;
  if (typeof operand === 'number' || isRawNumber(operand))
    return `coalesce(jsonb_typeof(${field}) = 'number' and ${field} ${order} ${state.bind(JSON.stringify(operand))}::jsonb, false)`;
  if (typeof operand === 'string')
    return `coalesce(jsonb_typeof(${field}) = 'string' and (${field} #>> '{}') collate "C" ${order} ${state.bind(operand)}::text, false)`;
  throw invalid(`${path}: must be a number or a text`);
}

function checkValue(value: unknown, path: string): void {
  if (value === undefined) throw invalid(`${path}: has no value`);
  try {
    checkJson(value, 1);
  } catch {
    throw invalid(`${path}: has a value that metadata can not hold`);
  }
}
