/** The Fetch request and its answer, in version 10, the first with which a broker gives out batches of zstd: every one since 2.1 knows it, the newest included. Pure. */
import { AnswerReader } from './answer-reader.ts';
import { BackwardBytes } from './backward-bytes.ts';

export const fetchApi = { apiKey: 1, apiVersion: 10, apiName: 'Fetch' } as const;

export interface FetchOptions {
  readonly topic: string;
  /** The first ones are served first when there is more than `bytesMax`. */
  readonly partitions: readonly { readonly partition: number; readonly offset: bigint }[];
  /** How long the broker waits while there is nothing new. */
  readonly waitMs: number;
  readonly bytesMax: number;
  readonly partitionBytesMax: number;
}

const readUncommitted = 0;
/** Every fetch names all that it asks for. */
const noSession = { id: 0, epoch: -1 } as const;
/** Of the leader, which is not compared; and of a follower's log. */
const unknown = -1;

export function fetchRequest({
  topic,
  partitions,
  waitMs,
  bytesMax,
  partitionBytesMax,
}: FetchOptions): Buffer {
  const bytes = new BackwardBytes(64 + topic.length + partitions.length * 28);
  bytes.int32(0); // partitions that a session is to forget
  for (const { partition, offset } of partitions.toReversed()) {
    bytes.int32(partitionBytesMax);
    bytes.int64(BigInt(unknown)); // where a follower's log begins
    bytes.int64(offset);
    bytes.int32(unknown); // epoch of the leader
    bytes.int32(partition);
  }
  bytes.int32(partitions.length);
  const before = bytes.length;
  bytes.text(topic);
  bytes.int16(bytes.length - before);
  bytes.int32(1); // topics
  bytes.int32(noSession.epoch);
  bytes.int32(noSession.id);
  bytes.uint8(readUncommitted);
  bytes.int32(bytesMax);
  bytes.int32(1); // bytes at least
  bytes.int32(waitMs);
  bytes.int32(-1); // not a replica
  return bytes.view();
}

export interface FetchedPartition {
  readonly partition: number;
  readonly errorCode: number;
  /** Record batches, the last of which may be cut. */
  readonly batches: Buffer;
}

export function readFetchAnswer(answer: Buffer): FetchedPartition[] {
  const found: FetchedPartition[] = [];
  const reader = new AnswerReader(answer);
  reader.skip(4); // throttled for
  const refused = reader.int16();
  // As a whole: there are no partitions then.
  if (refused !== 0) return [{ partition: -1, errorCode: refused, batches: Buffer.alloc(0) }];
  reader.skip(4); // session
  for (let topics = reader.int32(); topics > 0; topics -= 1) {
    reader.skip(reader.int16()); // name
    for (let partitions = reader.int32(); partitions > 0; partitions -= 1) {
      const partition = reader.int32();
      const errorCode = reader.int16();
      reader.skip(24); // ends of the partition, and its beginning
      reader.skip(reader.int32() * 16); // aborted transactions
      found.push({ partition, errorCode, batches: reader.slice(reader.int32()) });
    }
  }
  return found;
}
