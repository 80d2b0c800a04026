/** The Produce request and its answer, in version 7, the first with which a broker takes batches of zstd: every one since 2.1 knows it, the newest included. Pure. */
import { AnswerReader } from './answer-reader.ts';
import { BackwardBytes } from './backward-bytes.ts';

export const produceApi = { apiKey: 0, apiVersion: 7, apiName: 'Produce' } as const;

/** One batch, as it stands in a request: its partition and its length before it. */
export const partitionHeaderBytes = 8;

export function writePartitionHeader(into: BackwardBytes, partition: number, batchBytes: number): void {
  into.int32(batchBytes);
  into.int32(partition);
}

/** What comes before the batches of one topic, which wait until all replicas in sync have them. */
export function produceHead(options: {
  readonly topic: string;
  readonly partitions: number;
  readonly timeoutMs: number;
}): Buffer {
  const bytes = new BackwardBytes(64 + options.topic.length);
  bytes.int32(options.partitions);
  const before = bytes.length;
  bytes.text(options.topic);
  bytes.int16(bytes.length - before);
  bytes.int32(1); // topics
  bytes.int32(options.timeoutMs);
  bytes.int16(-1); // acknowledged by all
  bytes.int16(-1); // no transaction
  return bytes.view();
}

/** Partition -> error code, 0 for those that are durable. */
export function readProduceAnswer(answer: Buffer): Map<number, number> {
  const codes = new Map<number, number>();
  const reader = new AnswerReader(answer);
  for (let topics = reader.int32(); topics > 0; topics -= 1) {
    reader.skip(reader.int16()); // name
    for (let partitions = reader.int32(); partitions > 0; partitions -= 1) {
      const partition = reader.int32();
      codes.set(partition, reader.int16());
      reader.skip(24); // offset, time, and where the partition begins
    }
  }
  return codes;
}
