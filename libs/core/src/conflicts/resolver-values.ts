/**
 * Rows between Postgres's texts and the values that a resolver sees and gives: vectors are arrays of numbers, JSON is JSON, booleans and numbers that JavaScript
 * holds are what they are, and everything else is its text. What a resolver gives is checked against the table before anything is written. Pure.
 */
import type { CollectionTable } from '../collections/definition.ts';
import { isRawNumber, parseLossless } from '../requests/lossless-json.ts';
import { ResolverFailure, type JsonValue } from './resolver.ts';
import type { RowTexts, TableColumn } from './row-statements.ts';

/** How values are made: `exact` keeps numbers that JavaScript can not hold, and only JSON.stringify can read them. */
export type Exactness = 'exact' | 'plain';

const integerTypes = new Set(['smallint', 'integer']);
const floatTypes = new Set(['real', 'double precision']);
const depthMax = 100;

const isJson = (type: string) => type === 'json' || type === 'jsonb';

export function rowValues(
  texts: RowTexts,
  columns: readonly TableColumn[],
  exactness: Exactness,
): Record<string, JsonValue> {
  const known = columns.filter(({ name }) => Object.hasOwn(texts, name));
  return Object.fromEntries(
    known.map((column) => [column.name, valueOf(texts[column.name]!, column, exactness)]),
  );
}

function valueOf(text: string | null, { type, vector }: TableColumn, exactness: Exactness): JsonValue {
  if (text === null) return null;
  if (vector !== null) return JSON.parse(text) as number[];
  if (isJson(type)) return (exactness === 'exact' ? parseLossless(text) : JSON.parse(text)) as JsonValue;
  if (type === 'boolean') return text === 't' || text === 'true';
  if (integerTypes.has(type)) return Number(text);
  // NaN and infinities are no JSON.
  if (floatTypes.has(type) && Number.isFinite(Number(text))) return Number(text);
  return text;
}

export interface Given {
  readonly result: unknown;
  readonly columns: readonly TableColumn[];
  readonly table: Pick<CollectionTable, 'key'>;
  /** The rows that the resolver was asked about, ours first: where it gives back what it got, the text is taken as it was, digit for digit. */
  readonly sides: readonly (RowTexts | null)[];
  readonly exactness: Exactness;
}

export type Verdict =
  | { readonly kind: 'ours' }
  | { readonly kind: 'theirs' }
  | { readonly kind: 'deleted' }
  | { readonly kind: 'row'; readonly row: RowTexts };

/** Throws a ResolverFailure that says what is wrong with it. */
export function verdictOf(given: Given): Verdict {
  const { result } = given;
  if (result === 'ours' || result === 'theirs') return { kind: result };
  const shape = `it must be 'ours', 'theirs', {deleted: true} or {row: {column: value}}`;
  if (!isObject(result)) throw new ResolverFailure(`gave ${nameOf(result)}; ${shape}`);
  const fields = Object.keys(result);
  if (fields.length !== 1) throw new ResolverFailure(`gave an object with ${fields.length} fields; ${shape}`);
  if (result['deleted'] === true) return { kind: 'deleted' };
  const row = result['row'];
  if (!isObject(row)) throw new ResolverFailure(`gave no row; ${shape}`);
  return { kind: 'row', row: rowTexts(row, given) };
}

/** What it does not name stays as it is on our side, or on the other when ours is deleted. */
function rowTexts(row: Record<string, unknown>, { columns, table, sides, exactness }: Given): RowTexts {
  const base = sides.find((side) => side !== null) ?? {};
  const texts: Record<string, string | null> = { ...base };
  for (const [name, value] of Object.entries(row)) {
    const column = columns.find((one) => one.name === name);
    if (column === undefined)
      throw new ResolverFailure(`gave a column ${name}, which the table does not have`);
    const kept = sides.find(
      (side) =>
        side !== null &&
        Object.hasOwn(side, name) &&
        isSame(value, valueOf(side[name]!, column, exactness), 0),
    );
    texts[name] = kept == null ? textOf(value, column) : kept[name]!;
    if (kept == null && table.key.some((key) => key.name === name))
      throw new ResolverFailure(`gave another value for ${name}, which is part of the key`);
  }
  return texts;
}

function textOf(value: unknown, column: TableColumn): string | null {
  const wrong = (wanted: string) =>
    new ResolverFailure(`gave ${nameOf(value)} for column ${column.name}, which needs ${wanted}`);
  if (value === null) return null;
  const { type } = column;
  if (column.vector !== null) return vectorText(value, column);
  if (isJson(type)) return jsonText(value, column.name);
  if (type === 'boolean') {
    if (typeof value !== 'boolean') throw wrong('a boolean');
    return String(value);
  }
  if (integerTypes.has(type) || type === 'bigint') {
    const text = isRawNumber(value) ? JSON.stringify(value) : value;
    const isLong = type === 'bigint' && typeof text === 'string' && /^-?\d{1,19}$/.test(text);
    if (!Number.isSafeInteger(text) && !isLong) throw wrong('a whole number');
    return String(text);
  }
  if (floatTypes.has(type)) {
    if (typeof value !== 'number' || !Number.isFinite(value)) throw wrong('a finite number');
    return String(value);
  }
  if (type.startsWith('numeric') && Number.isFinite(value)) return String(value);
  if (typeof value !== 'string') throw wrong('a text');
  return value;
}

function vectorText(value: unknown, { name, type }: TableColumn): string {
  const dimension = Number(/\((\d+)\)/.exec(type)?.[1] ?? Number.NaN);
  if (!Array.isArray(value)) throw new ResolverFailure(`gave ${nameOf(value)} for the vector ${name}`);
  if (!Number.isNaN(dimension) && value.length !== dimension)
    throw new ResolverFailure(
      `gave ${value.length} dimensions for the vector ${name}, which has ${dimension}`,
    );
  if (!value.every((one) => typeof one === 'number' && Number.isFinite(one)))
    throw new ResolverFailure(`gave something other than finite numbers in the vector ${name}`);
  return JSON.stringify(value);
}

/** JSON.stringify alone would drop what is no JSON, or make it null, without a word. */
function jsonText(value: unknown, name: string): string {
  const check = (one: unknown, depth: number): void => {
    if (depth > depthMax) throw new ResolverFailure(`gave a value in ${name} that is nested too deeply`);
    if (one === null || typeof one === 'boolean' || typeof one === 'string' || isRawNumber(one)) return;
    if (typeof one === 'number') {
      if (!Number.isFinite(one)) throw new ResolverFailure(`gave a number in ${name} that is not finite`);
    } else if (Array.isArray(one)) for (const item of one) check(item, depth + 1);
    else if (isObject(one)) for (const item of Object.values(one)) check(item, depth + 1);
    else throw new ResolverFailure(`gave ${nameOf(one)} in ${name}, which is no JSON`);
  };
  check(value, 0);
  return JSON.stringify(value);
}

/** Deep equality of JSON, whatever the order of fields. */
function isSame(a: unknown, b: unknown, depth: number): boolean {
  if (Object.is(a, b)) return true;
  if (depth > depthMax || typeof a !== 'object' || typeof b !== 'object' || a === null || b === null)
    return false;
  if (isRawNumber(a) || isRawNumber(b))
    return isRawNumber(a) && isRawNumber(b) && JSON.stringify(a) === JSON.stringify(b);
  if (Array.isArray(a) !== Array.isArray(b)) return false;
  const fields = Object.keys(a);
  return (
    fields.length === Object.keys(b).length &&
    fields.every(
      (name) =>
        Object.hasOwn(b, name) &&
        isSame((a as Record<string, unknown>)[name], (b as Record<string, unknown>)[name], depth + 1),
    )
  );
}

const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value) && isPlain(value);

/** Maps, dates and the like have no fields, and would pass for empty objects. Values from another thread or realm are plain too. */
function isPlain(value: object): boolean {
  return Object.prototype.toString.call(value) === '[object Object]';
}

const nameOf = (value: unknown): string =>
  value === null
    ? 'null'
    : Array.isArray(value)
      ? 'an array'
      : value === undefined
        ? 'nothing'
        : `a ${typeof value}`;
