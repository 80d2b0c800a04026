/** The id of a request: the same for every repeat of it, whichever node takes it. Pure. */
import { createHash } from 'node:crypto';

/** A uuid's text from the first 16 bytes. */
export function uuidOf(bytes: Uint8Array): string {
  const hex = Buffer.from(bytes.subarray(0, 16)).toString('hex');
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-${hex.slice(12, 16)}-${hex.slice(16, 20)}-${hex.slice(20, 32)}`;
}

export interface KeyedRequest {
  /** Who asks: two users' keys are two requests. */
  readonly principal: string;
  readonly collection: string;
  readonly idempotencyKey: string;
}

/** 128 bits of sha256(principal, collection, key). */
export const requestIdOf = ({ principal, collection, idempotencyKey }: KeyedRequest): string =>
  uuidOf(createHash('sha256').update([principal, collection, idempotencyKey].join('\0'), 'utf8').digest());

export const bodyHash = (verb: string, body: string | Uint8Array): string =>
  createHash('sha256').update(verb).update('\0').update(body).digest('hex');
