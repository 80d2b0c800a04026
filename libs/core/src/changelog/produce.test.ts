import { expect, test } from '@jest/globals';
import { createRequire } from 'node:module';
import { BackwardBytes } from './backward-bytes.ts';
import { fetchRequest, readFetchAnswer } from './fetch.ts';
import { produceHead, readProduceAnswer, writePartitionHeader } from './produce.ts';

const require = createRequire(import.meta.url);
type Encode = (options: object) => { encode(): Promise<{ readonly buffer: Buffer }> };
const produceByKafkajs = require('kafkajs/src/protocol/requests/produce/v3/request.js') as Encode;
const fetchByKafkajs = require('kafkajs/src/protocol/requests/fetch/v10/request.js') as Encode;

test('a Produce request begins as that of kafkajs', async () => {
  const { buffer } = await produceByKafkajs({
    acks: -1,
    timeout: 25_000,
    topicData: [
      {
        topic: 'a.tópic',
        partitions: [
          { partition: 3, firstSequence: 0, messages: [{ key: 'k', value: 'v' }] },
          { partition: 5, firstSequence: 0, messages: [{ key: 'k', value: 'v' }] },
        ],
      },
    ],
  }).encode();
  const head = produceHead({ topic: 'a.tópic', partitions: 2, timeoutMs: 25_000 });
  expect(buffer.subarray(0, head.length).toString('hex')).toBe(head.toString('hex'));
  const first = new BackwardBytes(8);
  const batchBytes = (buffer.length - head.length - 16) / 2;
  writePartitionHeader(first, 3, batchBytes);
  expect(buffer.subarray(head.length, head.length + 8).toString('hex')).toBe(first.view().toString('hex'));
});

test('a Fetch request is that of kafkajs', async () => {
  const { buffer } = await fetchByKafkajs({
    replicaId: -1,
    maxWaitTime: 500,
    minBytes: 1,
    maxBytes: 4_000_000,
    isolationLevel: 0,
    topics: [
      {
        topic: 'a.tópic',
        partitions: [
          { partition: 7, fetchOffset: '12345678901', maxBytes: 1000 },
          { partition: 0, fetchOffset: '0', maxBytes: 1000 },
        ],
      },
    ],
  }).encode();
  const request = fetchRequest({
    topic: 'a.tópic',
    partitions: [
      { partition: 7, offset: 12_345_678_901n },
      { partition: 0, offset: 0n },
    ],
    waitMs: 500,
    bytesMax: 4_000_000,
    partitionBytesMax: 1000,
  });
  expect(request.toString('hex')).toBe(buffer.toString('hex'));
});

const int16 = (value: number): string => (value & 0xffff).toString(16).padStart(4, '0');
const int32 = (value: number): string => (value >>> 0).toString(16).padStart(8, '0');
const int64 = (value: number): string => '0'.repeat(8) + int32(value);
const topic = int16(5) + Buffer.from('topic').toString('hex');

test('the answer to a Produce request tells the fate of each partition', () => {
  const partition = (number: number, code: number): string =>
    int32(number) + int16(code) + int64(99) + int64(0) + int64(1);
  const answer = int32(1) + topic + int32(2) + partition(4, 0) + partition(6, 10) + int32(0);
  expect(readProduceAnswer(Buffer.from(answer, 'hex'))).toEqual(
    new Map([
      [4, 0],
      [6, 10],
    ]),
  );
});

test('the answer to a Fetch request has the batches of each partition, or its error', () => {
  const partition = (number: number, code: number, aborted: string, batches: string): string =>
    int32(number) +
    int16(code) +
    int64(9) +
    int64(8) +
    int64(1) +
    aborted +
    int32(batches === '' ? -1 : batches.length / 2) +
    batches;
  const answer =
    int32(0) +
    int16(0) +
    int32(0) +
    int32(1) +
    topic +
    int32(3) +
    partition(0, 0, int32(-1), 'aabb') +
    partition(1, 6, int32(0), '') +
    partition(2, 0, int32(1) + int64(1) + int64(2), 'cc');
  const found = readFetchAnswer(Buffer.from(answer, 'hex'));
  expect(found.map((one) => ({ ...one, batches: one.batches.toString('hex') }))).toEqual([
    { partition: 0, errorCode: 0, batches: 'aabb' },
    { partition: 1, errorCode: 6, batches: '' },
    { partition: 2, errorCode: 0, batches: 'cc' },
  ]);
  expect(() => readFetchAnswer(Buffer.from(answer, 'hex').subarray(0, -1))).toThrow(/damaged/);
  const refused = int32(0) + int16(71) + int32(0) + int32(0);
  expect(readFetchAnswer(Buffer.from(refused, 'hex'))).toMatchObject([{ errorCode: 71 }]);
});
