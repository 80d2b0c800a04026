/**
 * The hash of a key and the shard that follows from it: the first 32 bits of sha256 of the key's canonical text, the same in SQL
 * (`pgquorum.key_hash`). Golden values on both sides: changing this moves every key of every user.
 */
import { createHash } from 'node:crypto';
import type { ShardNumber } from '../versioning/version.ts';

export const keyHash = (key: string): number =>
  createHash('sha256').update(key, 'utf8').digest().readUInt32BE(0);

export const shardOfKey = (key: string, shards: number): ShardNumber =>
  (keyHash(key) % shards) as ShardNumber;
