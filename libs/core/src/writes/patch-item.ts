/** A patch of one vector as users send it, checked: the row's part and the operations on its CRDT fields. Pure. */
import type { CollectionDefinition } from '../collections/definition.ts';
import { PgquorumError } from '../errors/error.ts';
import { shardOf } from '../placement/partitioning.ts';
import { checkFields, invalid, isObject } from '../requests/fields.ts';
import { parseOperations } from '../versioning/crdt/operation.ts';
import type { ShardNumber } from '../versioning/version.ts';
import { encodeEmbedding, parseEmbedding } from './embedding.ts';
import { checkEmbeddingFields, metadataText } from './item.ts';
import { namedModel, type NamedModel } from './model.ts';

export interface PatchItem {
  readonly id: string;
  readonly shard: ShardNumber;
  /** JSON text of a merge patch; null = the metadata stays. */
  readonly metadata: string | null;
  /** In the binary format of its type; undefined = the embedding stays. */
  readonly embedding: Buffer | null | undefined;
  readonly model: NamedModel | null;
  /** JSON text of operations by field; null = none. */
  readonly operations: string | null;
  /** `<origin>.<counter>`, the version that the vector has to have. */
  readonly ifMatch: string | null;
}

/** Is there something for the row itself? Operations alone leave its version as it is. */
export const patchesRow = ({ metadata, embedding, model }: PatchItem): boolean =>
  metadata !== null || embedding !== undefined || model !== null;

const fields = ['metadata', 'embedding', 'model', 'crdt'];

export function parsePatch(
  body: unknown,
  definition: CollectionDefinition,
  target: { readonly id: string; readonly ifMatch: string | null },
): PatchItem {
  if (!isObject(body)) throw invalid('the body must be an object');
  checkFields(body, '', fields);
  if (!fields.some((field) => body[field] !== undefined))
    throw invalid(`the body must have one of ${fields.join(', ')}`);
  const { metadata, embedding, crdt } = body;
  checkEmbeddingFields(embedding, 'embedding');
  return {
    ...target,
    shard: shardOf(target.id, definition),
    metadata: metadata === undefined ? null : metadataText(metadata),
    embedding: embedding === undefined ? undefined : parsedEmbedding(embedding, definition),
    model: namedModel(body['model'], definition.conflicts.models),
    operations: crdt === undefined ? null : operationsText(crdt, definition),
  };
}

const parsedEmbedding = (embedding: unknown, definition: CollectionDefinition): Buffer | null =>
  embedding === null ? null : encodeEmbedding(parseEmbedding(embedding, definition));

function operationsText(crdt: unknown, { conflicts }: CollectionDefinition): string {
  const parsed = parseOperations(crdt, conflicts.crdt ?? {});
  if (!parsed.ok) throw new PgquorumError(parsed.problem.code, parsed.problem.detail);
  return JSON.stringify(parsed.operations);
}
