/**
 * Which shard a key belongs to, by hash or by range. The same in SQL (collections/partition-sql.ts); golden values on both sides. Pure.
 *
 * By range: the number of split points that are not greater than the key's canonical text, both as bytes of UTF-8, which is the order of SQL's collation "C".
 * JavaScript compares strings by UTF-16 units, which is another order beyond U+FFFF.
 */
import type { ShardNumber } from '../versioning/version.ts';
import { keyHash } from './key-hash.ts';

export interface RangePartitioning {
  readonly type: 'range';
  /** Ascending by their bytes; one more shard than there are points. */
  readonly splitPoints: readonly string[];
}

export interface Partitioned {
  readonly shards: number;
  /** By hash when left out. */
  readonly partitioning?: RangePartitioning | undefined;
}

export function shardOf(key: string, { shards, partitioning }: Partitioned): ShardNumber {
  if (partitioning === undefined) return (keyHash(key) % shards) as ShardNumber;
  const { splitPoints } = partitioning;
  const bytes = Buffer.from(key);
  let low = 0;
  let high = splitPoints.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (Buffer.compare(Buffer.from(splitPoints[middle]!), bytes) <= 0) low = middle + 1;
    else high = middle;
  }
  return low as ShardNumber;
}

/** What is wrong with split points, or null. */
export function splitPointsProblem(points: readonly string[]): string | null {
  for (const [at, point] of points.entries()) {
    if (point === '' || point.includes('\0') || !point.isWellFormed() || Buffer.byteLength(point) > 512)
      return `splitPoints.${at}: is a text of 1 to 512 bytes without the character NUL`;
    if (at > 0 && Buffer.compare(Buffer.from(points[at - 1]!), Buffer.from(point)) >= 0)
      return `splitPoints.${at}: has to come after the one before it, compared as bytes`;
  }
  return null;
}
