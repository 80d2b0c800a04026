/** A vector as reads give it back, from what a node's tables say. Pure. */
import type { CollectionDefinition } from '../collections/definition.ts';
import { siblingView, type Sibling, type SiblingJson } from '../conflicts/siblings.ts';
import { PgquorumError } from '../errors/error.ts';
import { parseLossless } from '../requests/lossless-json.ts';
import type { Clock } from '../versioning/clock.ts';
import {
  versionView,
  type NameOfNode,
  type VersionColumns,
  type VersionView,
} from '../versioning/version-view.ts';
import { embeddingOfText, type EmbeddingView } from '../writes/embedding.ts';
import { modelOfRank } from '../writes/model.ts';

export interface StoredVector {
  readonly id: string;
  readonly embedding: EmbeddingView | null;
  readonly metadata: unknown;
  readonly version: VersionView | null;
  readonly node: string;
  /** Values of the CRDT fields, in collections that declare some. */
  readonly crdt?: unknown;
  /** The embedding model that the version's write named, in collections that list some. */
  readonly model?: string | null;
  /** Open conflicts of the key, when they were asked for. */
  readonly siblings?: readonly Sibling[];
}

export type ReadResult = StoredVector | { readonly id: string | null; readonly error: PgquorumError };

export interface StoredRow extends Partial<VersionColumns> {
  readonly id: string;
  /** False for a tombstone. */
  readonly present: boolean;
  readonly embedding: string | null;
  readonly metadata: string | null;
  readonly rank: number | null;
  readonly crdt?: unknown;
  readonly siblings?: readonly SiblingJson[];
  /** All that the node has merged of the key, when it was asked for; null where there is no version. */
  readonly seen?: Clock | null;
}

export interface ReadFrom {
  readonly node: string;
  readonly collection: { readonly definition: CollectionDefinition };
  readonly nameOf: NameOfNode;
}

export const notThere = (id: string): ReadResult => ({
  id,
  error: new PgquorumError('vector_not_found', `vector ${JSON.stringify(id)}`),
});

/** What a node's row says; a tombstone says that there is nothing. */
export function resultOf(row: StoredRow, from: ReadFrom): ReadResult {
  return row.present ? storedVector(row, from) : notThere(row.id);
}

function storedVector(row: StoredRow, { node, collection, nameOf }: ReadFrom): StoredVector {
  const { hlc, origin, counter, clock } = row;
  const { conflicts } = collection.definition;
  const version =
    hlc != null && origin != null && counter != null && clock != null
      ? versionView({ hlc, origin, counter, clock }, nameOf)
      : null;
  return {
    id: row.id,
    embedding: row.embedding === null ? null : embeddingOfText(row.embedding),
    metadata: row.metadata === null ? null : parseLossless(row.metadata),
    ...(row.crdt === undefined ? {} : { crdt: row.crdt }),
    ...(conflicts.models === undefined ? {} : { model: modelOfRank(row.rank, conflicts.models) }),
    version,
    node,
    ...(row.siblings === undefined
      ? {}
      : { siblings: row.siblings.map((sibling) => siblingView(sibling, nameOf)) }),
  };
}
