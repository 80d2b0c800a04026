/** Messages as the loader gives and takes them: camelCase, 64-bit integers as texts, absent fields absent. */
import type { Receipt } from '#core/writes/strengthen.pg.ts';
import type { CollectionDefinition } from '#core/collections/definition.ts';
import type { Sibling } from '#core/conflicts/siblings.ts';
import type { ConflictView } from '#core/conflicts/view.ts';
import { PgquorumError } from '#core/errors/error.ts';
import type { StoredVector } from '#core/reads/stored-vector.ts';
import { invalid } from '#core/requests/fields.ts';
import { parseLossless } from '#core/requests/lossless-json.ts';
import type { VersionView } from '#core/versioning/version-view.ts';
import type { EmbeddingView } from '#core/writes/embedding.ts';
import { problemOf } from '../http/problem.ts';

export interface EmbeddingMessage {
  readonly f32le?: Buffer;
  readonly values?: readonly number[];
  readonly sparse?: {
    readonly indices?: readonly number[];
    readonly values?: readonly number[];
    readonly dimension?: number;
  };
  readonly bits?: string;
}

/** In the form that the core takes from all: bytes, floats, what HTTP takes for the other types, or null. */
export function readEmbedding(message: EmbeddingMessage | null | undefined): unknown {
  if (message === null || message === undefined) return null;
  const { f32le, values = [], sparse, bits } = message;
  const given = { f32le, values: values.length > 0 ? values : undefined, sparse, bits };
  const named = Object.entries(given).flatMap(([name, value]) => (value === undefined ? [] : [name]));
  if (named.length > 1) throw invalid(`embedding: both ${named[0]} and ${named[1]} are set`);
  if (sparse !== undefined) {
    const { indices = [], values: elements = [], dimension } = sparse;
    return { indices, values: elements, ...(dimension === undefined ? {} : { dimension }) };
  }
  return bits ?? f32le ?? Float32Array.from(values);
}

export const showEmbedding = (embedding: EmbeddingView): EmbeddingMessage => {
  if (typeof embedding === 'string') return { bits: embedding };
  if ('indices' in embedding) return { sparse: embedding };
  const floats = Float32Array.from(embedding);
  return { f32le: Buffer.from(floats.buffer, floats.byteOffset, floats.byteLength) };
};

export function readJson(field: string, text: string | undefined): unknown {
  if (text === undefined || text === '') return undefined;
  try {
    return parseLossless(text);
  } catch (cause) {
    throw new PgquorumError('malformed_json', `${field}: can not be parsed as JSON`, { cause });
  }
}

/** Empty texts are proto3's way of saying "not given". */
export const given = (fields: Readonly<Record<string, unknown>>): Record<string, unknown> =>
  Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined && value !== ''));

export const showVersion = (version: VersionView | null): object | undefined =>
  version === null
    ? undefined
    : {
        text: version.text,
        origin: version.origin,
        counter: version.counter,
        ...(version.hlc === null ? {} : { hlc: version.hlc }),
        ...(version.clock === null ? {} : { clock: { counters: version.clock } }),
      };

export const showItemError = (error: PgquorumError): object => {
  const { code, detail, hint } = problemOf(error);
  return { code, detail, hint };
};

/** Of a write that stands on too few replicas. */
export function showReceipt({ extra }: PgquorumError): object {
  const receipt = extra['receipt'] as Receipt | undefined;
  if (receipt === undefined) return {};
  const { acks, required, retrySafe, version } = receipt;
  return { receipt: { acks, required, retrySafe, version: showVersion(version) } };
}

export const showStored = (found: StoredVector): object => ({
  id: found.id,
  ...(found.embedding === null ? {} : { embedding: showEmbedding(found.embedding) }),
  metadataJson: JSON.stringify(found.metadata),
  version: showVersion(found.version),
  ...(found.crdt === undefined ? {} : { crdtJson: JSON.stringify(found.crdt) }),
  ...(found.model == null ? {} : { model: found.model }),
  node: found.node,
  ...(found.siblings === undefined ? {} : { siblings: found.siblings.map(showSibling) }),
});

const showSibling = (sibling: Sibling): object => ({
  conflictId: sibling.conflictId,
  ...(sibling.embedding === null ? {} : { embedding: showEmbedding(sibling.embedding) }),
  metadataJson: sibling.metadata === null ? '' : JSON.stringify(sibling.metadata),
  version: showVersion(sibling.version),
  deleted: sibling.deleted === true,
});

export const showConflict = (conflict: ConflictView): object => ({
  id: conflict.id,
  collection: conflict.collection,
  key: conflict.key,
  shard: conflict.shard,
  kind: conflict.kind,
  state: conflict.state,
  loser: showVersion(conflict.loser.version),
  loserDeleted: conflict.loser.deleted,
  loserRowJson: conflict.loser.row === null ? '' : JSON.stringify(conflict.loser.row),
  winner: conflict.winner.text,
  decidedBy: conflict.decidedBy,
  reason: conflict.reason,
  foundAt: conflict.foundAt,
  ...(conflict.current === null
    ? {}
    : { current: showVersion(conflict.current.version), currentDeleted: conflict.current.deleted }),
  ...(conflict.noise === null ? {} : { noise: conflict.noise }),
  winnerOrigin: conflict.winner.origin,
  winnerHlc: conflict.winner.hlc,
  stateAt: conflict.stateAt,
  stateOrigin: conflict.stateOrigin,
  ...(conflict.attempt === null
    ? {}
    : { attempt: { ...conflict.attempt, version: conflict.attempt.version ?? '' } }),
});

export interface ConflictRulesMessage {
  readonly strategy?: string;
  readonly crdt?: Readonly<Record<string, string>>;
  readonly resolver?: string;
  readonly models?: readonly string[];
  readonly cosineTolerance?: number;
}

/** Empty lists and maps are proto3's way of saying "not given". */
export function readRules(message: ConflictRulesMessage | null | undefined): object | undefined {
  if (message === null || message === undefined) return undefined;
  const { crdt = {}, models = [], ...rest } = message;
  return {
    ...rest,
    ...(Object.keys(crdt).length === 0 ? {} : { crdt }),
    ...(models.length === 0 ? {} : { models }),
  };
}

export interface DefinitionMessage {
  readonly dimension?: number;
  readonly metric?: string;
  readonly vectorType?: string;
  readonly shards?: number;
  readonly replicationFactor?: number;
  readonly partitioning?: { readonly type?: string; readonly splitPoints?: readonly string[] } | null;
  readonly nonHostWrites?: string;
  readonly writes?: string;
  readonly conflicts?: ConflictRulesMessage | null;
  readonly index?: { readonly type?: string; readonly m?: number; readonly efConstruction?: number } | null;
}

/** In the form that HTTP sends, so that one set of checks serves both. */
export function readDefinition(message: DefinitionMessage | null | undefined): object {
  const { conflicts, index, partitioning, ...rest } = message ?? {};
  const rules = readRules(conflicts);
  return {
    ...rest,
    ...(partitioning === undefined || partitioning === null
      ? {}
      : { partitioning: readPartitioning(partitioning) }),
    ...(rules === undefined ? {} : { conflicts: rules }),
    ...(index === undefined || index === null ? {} : { index }),
  };
}

const readPartitioning = ({
  type,
  splitPoints = [],
}: NonNullable<DefinitionMessage['partitioning']>): object => ({
  type,
  ...(splitPoints.length === 0 ? {} : { splitPoints }),
});

export interface AttachMessage {
  readonly name?: string;
  readonly conflicts?: ConflictRulesMessage | null;
  readonly allow?: { readonly triggers?: readonly string[] } | null;
}

/** In the form that HTTP sends. */
export function readAttach({ conflicts, allow, ...rest }: Omit<AttachMessage, 'name'>): object {
  const rules = readRules(conflicts);
  return {
    ...rest,
    ...(rules === undefined ? {} : { conflicts: rules }),
    ...(allow === null || allow === undefined ? {} : { allow }),
  };
}

export function showDefinition(definition: CollectionDefinition): object {
  const { attached, ...rest } = definition;
  if (attached === undefined) return rest;
  const { embedding, metadata, updatedAt } = attached;
  return {
    ...rest,
    attached: { embedding: embedding ?? '', metadata: metadata ?? '', updatedAt: updatedAt ?? '' },
  };
}
