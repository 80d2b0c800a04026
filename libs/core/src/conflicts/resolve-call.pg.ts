/** Resolves a conflict as a user says: the key gets what the call names and is otherwise as it is, in a version that dominates all of it. */
import type pg from 'pg';
import { readCollection } from '../collections/catalog.pg.ts';
import type { CollectionRow } from '../collections/catalog.pg.ts';
import { embeddingColumn, metadataColumn } from '../collections/row-address.ts';
import { PgquorumError } from '../errors/error.ts';
import type { Deadline } from '../postgres/deadline.ts';
import { checkFields, invalid, isObject } from '../requests/fields.ts';
import type { Nodes } from '../topology/nodes.pg.ts';
import { versionView, type VersionView } from '../versioning/version-view.ts';
import { checkVerb } from '../writes/attached.ts';
import { parseEmbedding, textOfEmbedding } from '../writes/embedding.ts';
import { metadataText } from '../writes/item.ts';
import { checkIfMatch, parseIfMatch } from './if-match.ts';
import { LockedKey, type LockedVersion, type RowTexts } from './locked-key.pg.ts';
import type { RecordTransactions } from './record-transaction.pg.ts';
import type { ConflictJson } from './record.ts';
import { resolveLocked, type ResolvedRow } from './resolution.pg.ts';

export interface ResolveCall {
  readonly id: string;
  /** `{metadata?, embedding?}`, or `{deleted: true}`. */
  readonly body: unknown;
  /** `<origin>.<counter>`: resolves only if this is the key's version now. */
  readonly ifMatch: string | null;
  readonly deadline: Deadline;
}

export interface ResolveResult {
  readonly id: string;
  readonly collection: string;
  readonly key: string;
  readonly deleted: boolean;
  readonly version: VersionView;
  readonly coordinator: string;
  readonly acks: readonly string[];
  /** Ids of all records that this closed. */
  readonly resolved: readonly string[];
}

export class ResolveCalls {
  readonly #nodes: Nodes;
  readonly #transactions: RecordTransactions;

  constructor(options: { readonly nodes: Nodes; readonly transactions: RecordTransactions }) {
    this.#nodes = options.nodes;
    this.#transactions = options.transactions;
  }

  async resolve({ id, body, ifMatch: given, deadline }: ResolveCall): Promise<ResolveResult> {
    const wanted = parseBody(body ?? {});
    const ifMatch = parseIfMatch(given);
    const { done, node } = await this.#transactions.run(id, deadline, (client, record) =>
      resolveOn(client, { record, wanted, ifMatch }),
    );
    const { record, version, resolved } = done;
    return {
      id: record.id,
      collection: record.collection,
      key: record.key,
      deleted: version.deleted,
      version: versionView(version, (number) => this.#nodes.nameOf(number)),
      coordinator: node.name,
      acks: [node.name],
      resolved,
    };
  }
}

interface Wanted {
  readonly deleted: boolean;
  readonly embedding?: unknown;
  readonly metadata?: string;
}

function parseBody(body: unknown): Wanted {
  if (!isObject(body)) throw invalid('the body must be an object');
  checkFields(body, '', ['metadata', 'embedding', 'deleted']);
  const { metadata, deleted = false } = body;
  if (typeof deleted !== 'boolean') throw invalid('deleted: must be true or false');
  const named = ['metadata', 'embedding'].find((field) => Object.hasOwn(body, field));
  if (deleted && named !== undefined) throw invalid(`${named}: what is deleted has none`);
  return {
    deleted,
    ...(Object.hasOwn(body, 'embedding') ? { embedding: body['embedding'] } : {}),
    ...(metadata === undefined ? {} : { metadata: metadataText(metadata) }),
  };
}

interface ResolveOn {
  readonly record: ConflictJson;
  readonly wanted: Wanted;
  readonly ifMatch: string | null;
}

async function resolveOn(
  client: pg.ClientBase,
  { record, wanted, ifMatch }: ResolveOn,
): Promise<{ record: ConflictJson; version: LockedVersion; resolved: readonly string[] }> {
  const collection = await readCollection(client, record.collection);
  if (collection === null) throw new PgquorumError('collection_not_found', `collection ${record.collection}`);
  const row = resolvedRow(collection, record, wanted);
  const locked = await LockedKey.lock(client, collection.table, record.key_texts);
  checkIfMatch(ifMatch, locked.version);
  const { version, records } = await resolveLocked(locked, {
    table: collection.table,
    key: record.key_texts,
    row,
    decidedBy: 'user',
    reason: 'resolved by a call',
    alsoRecords: [record.id],
  });
  return { record, version, resolved: records };
}

/** A key that is deleted comes back with the losing row, if there is one, below what the call names. */
function resolvedRow(collection: CollectionRow, record: ConflictJson, wanted: Wanted): ResolvedRow {
  if (wanted.deleted) return { kind: 'deleted' };
  const { table, definition } = collection;
  const { embedding, metadata } = wanted;
  if (embedding !== undefined) checkVerb(collection, 'upsert');
  const intoMetadata = metadataColumn(table);
  if (metadata !== undefined && intoMetadata === null)
    throw new PgquorumError('invalid_metadata', 'metadata: the table has no column for it');
  const columns: RowTexts = {
    ...(metadata === undefined ? {} : { [intoMetadata!]: metadata }),
    ...(embedding === undefined
      ? {}
      : {
          [embeddingColumn(table)!]:
            embedding === null ? null : textOfEmbedding(parseEmbedding(embedding, definition)),
        }),
  };
  const lost = record.loser_deleted ? null : (record.loser_row as RowTexts);
  return { kind: 'patch', columns, base: lost ?? (embedding === undefined ? null : {}) };
}
