/**
 * An embedding between what users send and get, pgvector's binary format, in which it is written, and its text form, in which it is read. Only finite
 * numbers of single precision get through. Pure.
 */
import pgvector from 'pgvector';
import { PgquorumError } from '../errors/error.ts';
import type { IndexDefinition, VectorType } from '../collections/definition.ts';
import { isObject, unknownField } from '../requests/fields.ts';
import { isRawNumber, rawNumber } from '../requests/lossless-json.ts';
import { encodeBits, parseBits } from './bits.ts';
import {
  encodeSparse,
  parseSparse,
  sparseOfText,
  textOfSparse,
  type SparseVector,
  type SparseVectorJson,
} from './sparse-vector.ts';

export interface EmbeddingShape {
  readonly dimension: number;
  readonly vectorType: VectorType;
  /** Of the table that is to hold it; a vector to search near is in no index. */
  readonly index?: IndexDefinition;
}

/** A checked embedding. Bits are their text. */
export type Embedding = Float32Array | SparseVector | string;

/** As answers show it: an array of numbers, a sparse vector, or a text of 0 and 1. */
export type EmbeddingView = readonly number[] | SparseVectorJson | string;

/** Halves of this size and more would round to infinity. */
const halfLimit = 65_520;

const invalidVector = (detail: string) => new PgquorumError('invalid_vector', detail);

export function parseEmbedding(value: unknown, shape: EmbeddingShape): Embedding {
  switch (shape.vectorType) {
    case 'vector':
    case 'halfvec':
      return parseDense(value, shape);
    case 'sparsevec':
      if (!isObject(value) || 'base64' in value)
        throw invalidVector('embedding: must be {"indices", "values"}, the collection is of sparse vectors');
      return parseSparse(value, { dimension: shape.dimension, indexed: shape.index?.type === 'hnsw' });
    case 'bit':
      return parseBits(value, shape.dimension);
  }
}

function parseDense(value: unknown, shape: EmbeddingShape): Float32Array {
  if (Array.isArray(value)) return fromNumbers(value, shape);
  if (value instanceof Float32Array) return checkFloats(value, shape);
  if (value instanceof Uint8Array) return fromBytes(value, shape);
  if (isObject(value) && 'base64' in value) {
    const other = Object.keys(value).find((field) => field !== 'base64');
    if (other !== undefined) throw unknownField(`embedding.${other}`);
    return fromBase64(value['base64'], shape);
  }
  throw invalidVector('embedding: must be an array of numbers or {"base64"}');
}

function checkDimension(length: number, { dimension }: EmbeddingShape): void {
  if (length !== dimension)
    throw new PgquorumError(
      'dimension_mismatch',
      `embedding: has ${length} dimensions, the collection has ${dimension}`,
    );
}

const limitOf = (shape: EmbeddingShape): number => (shape.vectorType === 'halfvec' ? halfLimit : Infinity);

function fromNumbers(numbers: readonly unknown[], shape: EmbeddingShape): Float32Array {
  checkDimension(numbers.length, shape);
  const limit = limitOf(shape);
  const floats = new Float32Array(numbers.length);
  for (let at = 0; at < numbers.length; at++) {
    const given = numbers[at];
    const number = typeof given === 'object' && isRawNumber(given) ? rawNumber(given) : given;
    if (typeof number !== 'number') throw invalidVector(`embedding.${at}: is not a finite number`);
    floats[at] = number;
    // The float, not the number: 1e39 is finite until it is stored. Written so that NaN fails too.
    if (!(Math.abs(floats[at]!) < limit))
      throw invalidVector(
        `embedding.${at}: is not a finite number of ${shape.vectorType === 'halfvec' ? 'half' : 'single'} precision`,
      );
  }
  return floats;
}

function checkFloats(floats: Float32Array, shape: EmbeddingShape): Float32Array {
  checkDimension(floats.length, shape);
  const limit = limitOf(shape);
  const at = floats.findIndex((float) => !(Math.abs(float) < limit));
  if (at >= 0)
    throw invalidVector(
      `embedding.${at}: is not a finite number of ${shape.vectorType === 'halfvec' ? 'half' : 'single'} precision`,
    );
  return floats;
}

function fromBase64(text: unknown, shape: EmbeddingShape): Float32Array {
  if (typeof text !== 'string' || !/^[A-Za-z0-9+/]*={0,2}$/.test(text) || text.length % 4 !== 0)
    throw invalidVector('embedding.base64: is not base64');
  return fromBytes(Buffer.from(text, 'base64'), shape);
}

/** Little-endian single-precision numbers. */
function fromBytes(bytes: Uint8Array, shape: EmbeddingShape): Float32Array {
  if (bytes.length % 4 !== 0)
    throw invalidVector(`embedding: ${bytes.length} bytes are no whole number of 4-byte floats`);
  const copy = new Uint8Array(bytes); // aligned, and no view of a network buffer
  return checkFloats(new Float32Array(copy.buffer), shape);
}

/** In the binary format of its type. */
export function encodeEmbedding(embedding: Embedding): Buffer {
  if (typeof embedding === 'string') return encodeBits(embedding);
  return embedding instanceof Float32Array ? encodeVector(embedding) : encodeSparse(embedding);
}

/** pgvector's binary format: dimension, a zero, big-endian floats. Also for halfvec, which the statement casts to. */
export function encodeVector(floats: Float32Array): Buffer {
  const buffer = Buffer.allocUnsafe(4 + floats.byteLength);
  buffer.writeUInt16BE(floats.length, 0);
  buffer.writeUInt16BE(0, 2);
  Buffer.from(floats.buffer, floats.byteOffset, floats.byteLength).copy(buffer, 4);
  buffer.subarray(4).swap32(); // all platforms that Node runs on are little-endian
  return buffer;
}

/** The text form of its type; that of a dense vector is a JSON array. */
export function textOfEmbedding(embedding: Embedding | EmbeddingView): string {
  if (typeof embedding === 'string') return embedding;
  return 'indices' in embedding ? textOfSparse(embedding) : (pgvector.toSql([...embedding]) as string);
}

/** What the text form shows; it tells its type by itself. */
export function embeddingOfText(text: string): EmbeddingView {
  if (text.startsWith('[')) return pgvector.fromSql(text) as number[];
  return text.startsWith('{') ? sparseOfText(text) : text;
}

/** All elements are zero. */
export function isZero(embedding: Embedding | EmbeddingView): boolean {
  if (typeof embedding === 'string') return !embedding.includes('1');
  return 'indices' in embedding ? embedding.indices.length === 0 : embedding.every((value) => value === 0);
}
