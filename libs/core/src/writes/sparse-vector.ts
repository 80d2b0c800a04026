/**
 * A sparse vector as users send it, `{"indices", "values", "dimension"?}` with indices from 0 -> pgvector's binary and text forms. Sorted, and without
 * the values that are zero as single-precision numbers: pgvector takes neither those nor indices out of order. Pure.
 */
import { PgquorumError } from '../errors/error.ts';
import { checkFields } from '../requests/fields.ts';
import { isRawNumber, rawNumber } from '../requests/lossless-json.ts';

export interface SparseVector {
  readonly kind: 'sparse';
  readonly dimension: number;
  /** Ascending, from 0. */
  readonly indices: readonly number[];
  /** As many as indices, none of them zero. */
  readonly values: readonly number[];
}

/** As the API takes and gives it. */
export type SparseVectorJson = Omit<SparseVector, 'kind'>;

/** pgvector's own limits. */
export const nonZeroMax = 16_000;
export const indexedNonZeroMax = 1000;

export interface SparseShape {
  readonly dimension: number;
  /** Whether an hnsw index has to hold it. */
  readonly indexed: boolean;
}

const headerBytes = 12;
const invalidVector = (detail: string) => new PgquorumError('invalid_vector', detail);

export function parseSparse(given: Readonly<Record<string, unknown>>, shape: SparseShape): SparseVector {
  checkFields(given, 'embedding', ['indices', 'values', 'dimension']);
  const { indices, values, dimension } = given;
  if (!Array.isArray(indices)) throw invalidVector('embedding.indices: must be an array of whole numbers');
  if (!Array.isArray(values)) throw invalidVector('embedding.values: must be an array of numbers');
  if (indices.length !== values.length)
    throw invalidVector(`embedding: has ${indices.length} indices and ${values.length} values`);
  if (dimension !== undefined) checkDimension(dimension, shape.dimension);
  const seen = new Set<number>();
  const elements: { readonly index: number; readonly value: number }[] = [];
  for (let at = 0; at < indices.length; at++) {
    const index = indexOf(indices[at], at, shape.dimension);
    if (seen.has(index)) throw invalidVector(`embedding.indices.${at}: ${index} comes twice`);
    seen.add(index);
    const value = valueOf(values[at], at);
    if (value !== 0) elements.push({ index, value });
  }
  const max = shape.indexed ? indexedNonZeroMax : nonZeroMax;
  if (elements.length > max)
    throw invalidVector(
      `embedding: has ${elements.length} elements that are not zero, ${shape.indexed ? 'an hnsw index' : 'sparsevec'} takes at most ${max}`,
    );
  elements.sort((a, b) => a.index - b.index);
  return {
    kind: 'sparse',
    dimension: shape.dimension,
    indices: elements.map(({ index }) => index),
    values: elements.map(({ value }) => value),
  };
}

function checkDimension(given: unknown, dimension: number): void {
  if (typeof given !== 'number' || !Number.isInteger(given))
    throw invalidVector('embedding.dimension: must be a whole number');
  if (given !== dimension)
    throw new PgquorumError(
      'dimension_mismatch',
      `embedding: has ${given} dimensions, the collection has ${dimension}`,
    );
}

function indexOf(given: unknown, at: number, dimension: number): number {
  if (typeof given !== 'number' || !Number.isInteger(given) || given < 0 || given >= dimension)
    throw invalidVector(`embedding.indices.${at}: must be a whole number from 0 to ${dimension - 1}`);
  return given;
}

function valueOf(given: unknown, at: number): number {
  const number = typeof given === 'object' && isRawNumber(given) ? rawNumber(given) : given;
  // The float, not the number: 1e39 is finite until it is stored.
  const float = typeof number === 'number' ? Math.fround(number) : Number.NaN;
  if (!Number.isFinite(float))
    throw invalidVector(`embedding.values.${at}: is not a finite number of single precision`);
  return float;
}

/** pgvector's binary format: dimension, count, a zero, the indices from 0, the values; all big-endian. */
export function encodeSparse({ dimension, indices, values }: SparseVectorJson): Buffer {
  const buffer = Buffer.allocUnsafe(headerBytes + indices.length * 8);
  buffer.writeInt32BE(dimension, 0);
  buffer.writeInt32BE(indices.length, 4);
  buffer.writeInt32BE(0, 8);
  const valuesAt = headerBytes + indices.length * 4;
  indices.forEach((index, at) => buffer.writeInt32BE(index, headerBytes + at * 4));
  values.forEach((value, at) => buffer.writeFloatBE(value, valuesAt + at * 4));
  return buffer;
}

/** pgvector's text form counts from 1: `{1:0.5,3:2}/5`. */
export const textOfSparse = ({ dimension, indices, values }: SparseVectorJson): string =>
  `{${indices.map((index, at) => `${index + 1}:${values[at]!}`).join(',')}}/${dimension}`;

export function sparseOfText(text: string): SparseVectorJson {
  const end = text.lastIndexOf('}');
  const elements = end > 1 ? text.slice(1, end).split(',') : [];
  const pairs = elements.map((element) => element.split(':', 2) as [string, string]);
  return {
    indices: pairs.map(([index]) => Number(index) - 1),
    values: pairs.map(([, value]) => Number(value)),
    dimension: Number(text.slice(end + 2)),
  };
}
