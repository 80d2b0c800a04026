/** The items of a write as users send them. An item that is not valid carries its own error; a field that nobody knows refuses the whole request. Pure. */
import { PgquorumError, isPgquorumError } from '../errors/error.ts';
import { shardOf, type Partitioned } from '../placement/partitioning.ts';
import { checkFields, invalid, isObject } from '../requests/fields.ts';
import { isRawNumber } from '../requests/lossless-json.ts';
import type { ShardNumber } from '../versioning/version.ts';
import { encodeEmbedding, parseEmbedding, type EmbeddingShape } from './embedding.ts';
import { namedModel, type Models, type NamedModel } from './model.ts';

export const keyBytesMax = 512;
export const metadataBytesMax = 1024 * 1024;
const metadataLevelsMax = 64;

/** A vector by its key. */
export interface KeyItem {
  readonly id: string;
  readonly shard: ShardNumber;
}

export interface WriteItem extends KeyItem {
  /** In the binary format of its type; null = no embedding. */
  readonly embedding: Buffer | null;
  /** JSON text of an object. */
  readonly metadata: string;
  readonly model: NamedModel | null;
}

export type CheckId = (id: string) => void;

export type ParsedItem<T> =
  | { readonly ok: true; readonly item: T }
  | { readonly ok: false; readonly id: string | null; readonly error: PgquorumError };

export interface ItemShape extends EmbeddingShape, Partitioned {
  /** Throws for what is no id of this collection. */
  readonly checkId?: CheckId;
  /** An attached table may have no column for it. */
  readonly withoutMetadata?: boolean;
  readonly models: Models;
}

/** Why this is no id, or null. */
export function keyProblem(id: unknown): string | null {
  if (typeof id !== 'string') return 'id: must be a text';
  if (id === '') return 'id: must not be empty';
  if (Buffer.byteLength(id) > keyBytesMax) return `id: is longer than ${keyBytesMax} bytes`;
  if (id.includes('\0')) return 'id: has the character NUL';
  return id.isWellFormed() ? null : 'id: has half of a surrogate pair';
}

export function checkKey(id: unknown): string {
  const problem = keyProblem(id);
  if (problem !== null) throw new PgquorumError('invalid_key', problem);
  return id as string;
}

const laterFields = {
  crdt: 'operations on CRDT fields go by PATCH of a vector',
};

export function parseItems(values: unknown, shape: ItemShape): ParsedItem<WriteItem>[] {
  if (!Array.isArray(values)) throw invalid('vectors: must be an array');
  values.forEach((value, at) => {
    if (!isObject(value)) throw invalid(`vectors.${at}: must be an object`);
    checkFields(value, `vectors.${at}`, ['id', 'embedding', 'metadata', 'model'], laterFields);
    checkEmbeddingFields(value['embedding'], `vectors.${at}.embedding`);
  });
  const repeated = repeatedIds(values.map((value: { id?: unknown }) => value.id));
  return (values as Record<string, unknown>[]).map((value) =>
    attempt(value['id'], () => parseItem(value, shape, repeated)),
  );
}

/** Fields of an embedding that nobody knows refuse the whole request too. */
export function checkEmbeddingFields(embedding: unknown, path: string): void {
  if (isObject(embedding)) checkFields(embedding, path, ['base64', 'indices', 'values', 'dimension']);
}

/** The ids of a read or a delete. */
export function parseIds(
  values: unknown,
  partitioned: Partitioned,
  check?: CheckId,
): ParsedItem<{ id: string; shard: ShardNumber }>[] {
  if (!Array.isArray(values)) throw invalid('ids: must be an array');
  const repeated = repeatedIds(values);
  return values.map((id) =>
    attempt(id, () => ({ id: checkNew(id, repeated, check), shard: shardOf(id as string, partitioned) })),
  );
}

function attempt<T>(id: unknown, parse: () => T): ParsedItem<T> {
  try {
    return { ok: true, item: parse() };
  } catch (error) {
    if (!isPgquorumError(error)) throw error;
    return { ok: false, id: typeof id === 'string' ? id.slice(0, keyBytesMax).toWellFormed() : null, error };
  }
}

function repeatedIds(ids: readonly unknown[]): ReadonlySet<unknown> {
  const once = new Set<unknown>();
  const twice = new Set<unknown>();
  for (const id of ids) (once.has(id) ? twice : once).add(id);
  return twice;
}

/** All items of an id that comes twice fail: which of them was meant can not be known. */
function checkNew(id: unknown, repeated: ReadonlySet<unknown>, check?: CheckId): string {
  const key = checkKey(id);
  check?.(key);
  if (repeated.has(key)) throw new PgquorumError('duplicate_key', 'the batch names this id more than once');
  return key;
}

function parseItem(
  value: Readonly<Record<string, unknown>>,
  shape: ItemShape,
  repeated: ReadonlySet<unknown>,
): WriteItem {
  const id = checkNew(value['id'], repeated, shape.checkId);
  const { embedding } = value;
  if (embedding === undefined)
    throw new PgquorumError('invalid_vector', 'embedding: is missing; send null for a vector without one');
  if (shape.withoutMetadata === true && value['metadata'] !== undefined)
    throw new PgquorumError('invalid_metadata', 'metadata: the table has no column for it');
  return {
    id,
    shard: shardOf(id, shape),
    embedding: embedding === null ? null : encodeEmbedding(parseEmbedding(embedding, shape)),
    metadata: metadataText(value['metadata']),
    model: namedModel(value['model'], shape.models),
  };
}

/** The text of metadata as users send it. */
export function metadataText(metadata: unknown): string {
  if (metadata === undefined) return '{}';
  if (!isObject(metadata) || isRawNumber(metadata))
    throw new PgquorumError('invalid_metadata', 'metadata: must be an object');
  checkJson(metadata, 1);
  const text = JSON.stringify(metadata);
  if (Buffer.byteLength(text) > metadataBytesMax)
    throw new PgquorumError('invalid_metadata', `metadata: is larger than ${metadataBytesMax} bytes`);
  return text;
}

/** What jsonb can not hold: NUL, halves of surrogate pairs, numbers beyond its range. */
export function checkJson(value: unknown, level: number): void {
  if (typeof value === 'string') checkJsonText(value);
  if (typeof value !== 'object' || value === null) return;
  if (isRawNumber(value)) return checkRange(value.rawJSON);
  if (level > metadataLevelsMax)
    throw new PgquorumError('invalid_metadata', `metadata: has more than ${metadataLevelsMax} levels`);
  for (const [key, inner] of Object.entries(value)) {
    checkJsonText(key);
    checkJson(inner, level + 1);
  }
}

function checkJsonText(text: string): void {
  if (text.includes('\0')) throw new PgquorumError('invalid_metadata', 'metadata: has the character NUL');
  if (!text.isWellFormed())
    throw new PgquorumError('invalid_metadata', 'metadata: has half of a surrogate pair');
}

function checkRange(source: string): void {
  const exponent = /[eE]([+-]?\d+)$/.exec(source)?.[1];
  if (source.length > 1000 || (exponent !== undefined && Math.abs(Number(exponent)) > 1000))
    throw new PgquorumError('invalid_metadata', 'metadata: has a number of more than 1000 digits');
}
