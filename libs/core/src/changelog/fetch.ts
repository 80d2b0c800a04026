/** The Fetch request and its answer, in version 4: every broker since 0.11 knows it, the newest included. Pure. */
import { AnswerReader } from './answer-reader.ts';
import { BackwardBytes } from './backward-bytes.ts';

export const fetchApi = { apiKey: 1, apiVersion: 4, apiName: 'Fetch' } as const;

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

export function fetchRequest({
  topic,
  partitions,
  waitMs,
  bytesMax,
  partitionBytesMax,
}: FetchOptions): Buffer {
  const bytes = new BackwardBytes(64 + topic.length + partitions.length * 16);
  for (const { partition, offset } of partitions.toReversed()) {
    bytes.int32(partitionBytesMax);
    bytes.int64(offset);
    bytes.int32(partition);
  }
  bytes.int32(partitions.length);
  const before = bytes.length;
  bytes.text(topic);
  bytes.int16(bytes.length - before);
  bytes.int32(1); // topics
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
  for (let topics = reader.int32(); topics > 0; topics -= 1) {
    reader.skip(reader.int16()); // name
    for (let partitions = reader.int32(); partitions > 0; partitions -= 1) {
      const partition = reader.int32();
      const errorCode = reader.int16();
      reader.skip(16); // ends of the partition
      reader.skip(reader.int32() * 16); // aborted transactions
      found.push({ partition, errorCode, batches: reader.slice(reader.int32()) });
    }
  }
  return found;
}
