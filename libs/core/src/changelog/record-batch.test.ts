import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { createRequire } from 'node:module';
import { gunzipSync, gzipSync } from 'node:zlib';
import { BackwardBytes } from './backward-bytes.ts';
import {
  readBatches,
  readRecords,
  stampBatch,
  writeBatchHeader,
  writeRecords,
  type Codec,
  type Stamp,
} from './record-batch.ts';

const require = createRequire(import.meta.url);

/** What another implementation makes of a batch. */
interface KafkajsBatch {
  readonly producerId: string;
  readonly producerEpoch: number;
  readonly firstSequence: number;
  readonly lastOffsetDelta: number;
  readonly firstTimestamp: string;
  readonly maxTimestamp: string;
  readonly records: readonly {
    readonly offset: string;
    readonly timestamp: string;
    readonly key: Buffer;
    readonly value: Buffer;
    readonly headers: Record<string, Buffer>;
  }[];
}
const Decoder = require('kafkajs/src/protocol/decoder.js') as new (bytes: Buffer) => object;
const decodeByKafkajs = require('kafkajs/src/protocol/recordBatch/v0/decoder.js') as (
  decoder: object,
) => Promise<KafkajsBatch>;
const crcByKafkajs = require('kafkajs/src/protocol/recordBatch/crc32C/index.js') as (bytes: Buffer) => number;

interface Message {
  readonly key: string;
  readonly value: Uint8Array;
  readonly headers: Readonly<Record<string, string>>;
}

const timeMs = 1_750_000_000_123;
const stamp: Stamp = { producerId: 7n, epoch: 3, sequence: 5 };

function encode(messages: readonly Message[], options: { codec?: Codec; stamp?: Stamp } = {}): Buffer {
  const { codec = 'none' } = options;
  const bytes = new BackwardBytes(64);
  writeRecords(bytes, messages.length, (index) => {
    const { key, value, headers } = messages[index]!;
    return { key, headers, writeValue: (into) => into.bytes(value) };
  });
  if (codec === 'gzip') {
    const compressed = gzipSync(bytes.view());
    bytes.rewind();
    bytes.bytes(compressed);
  }
  writeBatchHeader(bytes, { count: messages.length, recordBytes: bytes.length, timeMs, codec });
  const batch = Buffer.from(bytes.view());
  stampBatch(batch, options.stamp ?? stamp);
  return batch;
}

const text = fc.oneof(fc.string({ maxLength: 80 }), fc.string({ unit: 'grapheme', maxLength: 20 }));
/** kafkajs takes names that every object has for names that came before. */
const name = fc.string({ minLength: 1, maxLength: 20 }).filter((found) => !(found in {}));
const messages = fc.array(
  fc.record({
    key: text,
    value: fc.oneof(fc.uint8Array({ maxLength: 50 }), fc.uint8Array({ minLength: 200, maxLength: 9000 })),
    headers: fc.dictionary(name, text, { maxKeys: 4, noNullPrototype: true }),
  }),
  { minLength: 1, maxLength: 8 },
);
const stamps = fc.record({
  producerId: fc.bigInt({ min: 0n, max: 2n ** 63n - 1n }),
  epoch: fc.nat({ max: 32_767 }),
  sequence: fc.nat({ max: 2 ** 31 - 1 }),
});
const header = Buffer.from('wanted');

describe('a batch of records', () => {
  test('is what kafkajs reads, with its checksum, whether it is compressed or not', async () => {
    await fc.assert(
      fc.asyncProperty(
        messages,
        stamps,
        fc.constantFrom<Codec>('none', 'gzip'),
        async (sent, given, codec) => {
          const batch = encode(sent, { codec, stamp: given });
          expect(batch.readUInt32BE(17)).toBe(crcByKafkajs(batch.subarray(21)) >>> 0);
          const found = await decodeByKafkajs(new Decoder(batch));
          expect(found).toMatchObject({
            producerId: String(given.producerId),
            producerEpoch: given.epoch,
            firstSequence: given.sequence,
            lastOffsetDelta: sent.length - 1,
            firstTimestamp: String(timeMs),
            maxTimestamp: String(timeMs),
          });
          expect(
            found.records.map(({ offset, timestamp, key, value, headers }) => ({
              offset,
              timestamp,
              key: key.toString(),
              value: value.toString('hex'),
              headers: Object.entries(headers).map(([one, bytes]) => [one, bytes.toString()]),
            })),
          ).toEqual(
            sent.map(({ key, value, headers }, at) => ({
              offset: String(at),
              timestamp: String(timeMs),
              key,
              value: Buffer.from(value).toString('hex'),
              headers: Object.entries(headers),
            })),
          );
        },
      ),
      { numRuns: 300 },
    );
  });

  test('can be stamped again', () => {
    const sent = [{ key: 'k', value: Buffer.from('v'), headers: {} }];
    const batch = encode(sent);
    stampBatch(batch, { producerId: 9n, epoch: 0, sequence: 0 });
    expect(batch).toEqual(encode(sent, { stamp: { producerId: 9n, epoch: 0, sequence: 0 } }));
  });

  test('is read back, several after each other, the last one cut off', () => {
    fc.assert(
      fc.property(
        fc.array(fc.tuple(messages, fc.constantFrom<Codec>('none', 'gzip')), { minLength: 1, maxLength: 3 }),
        fc.nat({ max: 200 }),
        (sent, cut) => {
          let first = 100n;
          const batches = sent.map(([group, codec]) => {
            const batch = encode(group, { codec });
            batch.writeBigInt64BE(first, 0);
            first += BigInt(group.length);
            return batch;
          });
          const whole = Buffer.concat(batches);
          const left = cut === 0 ? whole : whole.subarray(0, Math.max(whole.length - cut, 0));
          let end = 0;
          const expected = sent.filter((_, at) => (end += batches[at]!.length) <= left.length);
          const found = readBatches(left);
          expect(found.map(({ codec }) => codec)).toEqual(expected.map(([, codec]) => codec));
          const records = found.flatMap((batch) => {
            const plain = batch.codec === 'gzip' ? gunzipSync(batch.records) : batch.records;
            return readRecords({ ...batch, records: plain }, header);
          });
          expect(records.map(({ offset, value }) => [offset, value!.toString('hex')])).toEqual(
            expected
              .flatMap(([group]) => group)
              .map(({ value }, at) => [100n + BigInt(at), Buffer.from(value).toString('hex')]),
          );
        },
      ),
      { numRuns: 300 },
    );
  });

  test('gives the header that is asked for, and none when it is missing', () => {
    const value = Buffer.from('v');
    const batch = encode([
      { key: 'a', value, headers: { other: '1', wanted: 'x' } },
      { key: 'b', value, headers: { other: '1' } },
      { key: 'c', value, headers: { wanted: 'yy', wantedToo: '2' } },
    ]);
    const [found] = readBatches(batch);
    expect(readRecords(found!, header).map((record) => record.header)).toEqual(['x', undefined, 'yy']);
  });

  test('with any byte changed is not taken for what was sent', () => {
    const sent = [{ key: 'key', value: Buffer.from('a value'), headers: { wanted: 'x' } }];
    const batch = encode(sent);
    // The first offset and the epoch of the leader are the broker's; a changed length cuts the batch off or is a changed checksum.
    for (let at = 16; at < batch.length; at += 1) {
      const damaged = Buffer.from(batch);
      damaged[at]! ^= 0x10;
      expect(() => readBatches(damaged)).toThrow(/damaged|format/);
    }
  });

  test('of another codec is refused by its number', () => {
    const batch = encode([{ key: 'k', value: Buffer.from('v'), headers: {} }]);
    batch.writeInt16BE(5, 21);
    stampBatch(batch, stamp);
    expect(() => readBatches(batch)).toThrow(/codec 5/);
  });
});
