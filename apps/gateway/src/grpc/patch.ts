/** A patch as gRPC sends it, in the form that HTTP sends, so that one set of checks serves both. */
import { invalid } from '#core/requests/fields.ts';
import { readEmbedding, readJson, type EmbeddingMessage } from './messages.ts';

export interface CrdtOperationMessage {
  readonly increment?: string;
  readonly decrement?: string;
  readonly addJson?: string;
  readonly removeJson?: string;
  readonly setJson?: string;
}

export interface PatchMessage {
  readonly collection?: string;
  readonly id?: string;
  readonly metadataJson?: string;
  readonly embedding?: EmbeddingMessage | null;
  readonly clearEmbedding?: boolean;
  readonly model?: string;
  readonly crdt?: Readonly<Record<string, CrdtOperationMessage>> | null;
  readonly ifMatch?: string;
}

export function readPatch(message: PatchMessage): object {
  const { metadataJson, embedding, clearEmbedding = false, model = '', crdt } = message;
  const isGiven = embedding !== undefined && embedding !== null;
  if (isGiven && clearEmbedding) throw invalid('clear_embedding: an embedding is given too');
  const metadata = readJson('metadata_json', metadataJson);
  const operations = Object.entries(crdt ?? {});
  return {
    ...(metadata === undefined ? {} : { metadata }),
    ...(isGiven ? { embedding: readEmbedding(embedding) } : {}),
    ...(clearEmbedding ? { embedding: null } : {}),
    ...(model === '' ? {} : { model }),
    ...(operations.length === 0
      ? {}
      : {
          crdt: Object.fromEntries(operations.map(([field, one]) => [field, readOperation(field, one)])),
        }),
  };
}

function readOperation(field: string, message: CrdtOperationMessage): object {
  const { increment, decrement, addJson, removeJson, setJson } = message;
  return {
    ...(increment === undefined ? {} : { increment: amount(increment) }),
    ...(decrement === undefined ? {} : { decrement: amount(decrement) }),
    ...(addJson === undefined ? {} : { add: readJson(`crdt.${field}.add_json`, addJson) }),
    ...(removeJson === undefined ? {} : { remove: readJson(`crdt.${field}.remove_json`, removeJson) }),
    ...(setJson === undefined ? {} : { set: readJson(`crdt.${field}.set_json`, setJson) }),
  };
}

/** What a number does not hold stays a text, which is refused as an amount. */
const amount = (text: string): number | string => (Number.isSafeInteger(Number(text)) ? Number(text) : text);
