/**
 * The hash of a key: the first 32 bits of sha256 of the key's canonical text, the same in SQL
 * (`pgquorum.key_hash`). Golden values on both sides: changing this moves every key of every user.
 */
import { createHash } from 'node:crypto';

export const keyHash = (key: string): number =>
  createHash('sha256').update(key, 'utf8').digest().readUInt32BE(0);
