/** A consumer as a user would write one: kafkajs, protobufjs and the .proto file. Nothing of pgquorum runs in it. */
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { randomUUID } from 'node:crypto';
import { Kafka, logLevel, type KafkaMessage } from 'kafkajs';
import protobuf from 'protobufjs';
import type { LogBatch, WriteChange } from '#core/changelog/change.ts';
import { changeCodec } from '#core/changelog/schema.files.ts';
import { KafkaLogWriter } from '#core/changelog/writer.kafka.ts';
import { sharedKafka } from '#core/testing/broker.kafka.ts';
import { kafkaAvailable } from '#core/testing/kafka-jars.os.ts';
import type { Epoch, HlcValue, NodeNumber, ShardNumber } from '#core/versioning/version.ts';

const availability = await kafkaAvailable();
if (availability.kind === 'unavailable')
  process.stderr.write(`skipped: consumers of the topics (${availability.reason})\n`);
const describeWithKafka = availability.kind === 'available' ? describe : describe.skip;

const origin = 2 as NodeNumber;
const dimension = 768;
const embedding = (seed: number): number[] =>
  Array.from({ length: dimension }, (_, at) => Math.fround(Math.sin(seed * 1_000 + at)));

function pgVector(values: readonly number[]): Buffer {
  const bytes = Buffer.alloc(4 + values.length * 4);
  bytes.writeUInt16BE(values.length);
  values.forEach((value, at) => bytes.writeFloatBE(value, 4 + at * 4));
  return bytes;
}

const table = {
  collection: 'docs',
  columns: [
    { name: 'id', type: 'text', isKey: true },
    { name: 'embedding', type: 'vector', isKey: false },
    { name: 'metadata', type: 'jsonb', isKey: false },
  ],
};

function write(counter: number, deleted: boolean): WriteChange {
  const key = `doc-${counter % 50}`;
  const version = {
    rank: 0,
    epoch: 0n as Epoch,
    hlc: (BigInt(1_750_000_000_000 + counter) << 16n) as HlcValue,
    dot: { origin, counter },
    clock: { 1: 7, 2: counter },
    deleted,
    request: null,
    crdt: null,
  };
  const row = deleted
    ? null
    : {
        table,
        values: [Buffer.from(key), pgVector(embedding(counter)), Buffer.from(`\x01{"n": ${counter}}`)],
      };
  return {
    kind: 'write',
    collection: 'docs',
    key: [key],
    shard: (counter % 50) as ShardNumber,
    version,
    row,
    seen: null,
    losers: [],
    requests: [],
  };
}

/** A change as protobufjs gives it: what a consumer sees. */
interface PlainChange {
  id: string;
  operation: string;
  origin: string;
  originNumber: number;
  collection: string;
  key: string[];
  version: { counter: number; deleted?: boolean; clock: { counters: Record<string, number> } };
  row?: {
    columns: { name: string; value: { text: string; vector: { dimension: number; values: Buffer } } }[];
  };
}

const total = 400;
const isDelete = (counter: number): boolean => counter % 9 === 0;

describeWithKafka('a consumer with kafkajs and the .proto file', () => {
  const topic = `pgquorum.consumers.${randomUUID()}`;
  const commitTimeMs = Date.UTC(2026, 5, 1, 12);
  let messages: KafkaMessage[];
  let decoded: PlainChange[];

  beforeAll(async () => {
    const kafka = await sharedKafka();
    const writer = await KafkaLogWriter.open({
      kafka,
      topic,
      origin,
      originName: 'asia',
      codec: changeCodec(),
      settings: { partitions: 3 },
    });
    for (let counter = 1; counter <= total; counter += 10) {
      const changes = Array.from({ length: 10 }, (_, at) => write(counter + at, isDelete(counter + at)));
      const batch: LogBatch = {
        origin,
        stream: 0,
        changes,
        position: BigInt(counter),
        commitTimeMs: commitTimeMs + counter,
        commitLsn: 0x1_0000_0000n + BigInt(counter),
        bytes: 0,
      };
      await writer.append([batch]);
    }
    await writer.append([
      {
        origin,
        stream: 0,
        changes: [{ kind: 'heartbeat' }],
        position: 9_999n,
        commitTimeMs,
        commitLsn: 9_999n,
        bytes: 0,
      },
    ]);
    await writer.close();
    messages = await consume(kafka.brokers, topic, total + 3);
    const { root } = await protobuf.load('libs/core/proto/pgquorum/v1/change.proto');
    const type = root.lookupType('pgquorum.v1.Change');
    decoded = messages.map(
      ({ value }) => type.toObject(type.decode(value!), { longs: Number, enums: String }) as PlainChange,
    );
  }, 120_000);
  afterAll(() => {
    messages = [];
  });

  test('decodes every change, each with its row, version and origin', () => {
    const writes = decoded.filter(({ operation }) => operation !== 'OPERATION_HEARTBEAT');
    expect(writes.map(({ version }) => version.counter).toSorted((a, b) => a - b)).toEqual(
      Array.from({ length: total }, (_, at) => at + 1),
    );
    for (const change of writes) {
      const { counter } = change.version;
      expect(change).toMatchObject({
        origin: 'asia',
        originNumber: 2,
        collection: 'docs',
        key: [`doc-${counter % 50}`],
        operation: isDelete(counter) ? 'OPERATION_DELETE' : 'OPERATION_UPSERT',
      });
      expect(change.version.clock.counters).toEqual({ 1: 7, 2: counter });
      if (isDelete(counter)) {
        expect(change.row).toBeUndefined();
        continue;
      }
      const columns = Object.fromEntries(change.row!.columns.map(({ name, value }) => [name, value]));
      expect(columns['id']).toEqual({ text: `doc-${counter % 50}` });
      expect(JSON.parse(columns['metadata']!.text)).toEqual({ n: counter });
      const { values, dimension: found } = columns['embedding']!.vector;
      expect(found).toBe(dimension);
      expect(Array.from({ length: dimension }, (_, at) => values.readFloatLE(at * 4))).toEqual(
        embedding(counter),
      );
    }
  });

  test('gets the changes of a key in commit order', () => {
    const last = new Map<string, number>();
    for (const { operation, key, version } of decoded) {
      if (operation === 'OPERATION_HEARTBEAT') continue;
      expect(version.counter).toBeGreaterThan(last.get(key[0]!) ?? 0);
      last.set(key[0]!, version.counter);
    }
    expect(last.size).toBe(50);
  });

  test('can tell from key and headers what a message is about, and never gets a null value', () => {
    const ids = new Set<string>();
    messages.forEach((message, at) => {
      const headers = Object.fromEntries(
        Object.entries(message.headers!).map(([name, value]) => [name, String(value)]),
      );
      const change = decoded[at]!;
      expect(message.value).not.toBeNull();
      expect(headers['content-type']).toBe('application/protobuf');
      expect(headers['id']).toBe(change.id);
      if (change.operation === 'OPERATION_HEARTBEAT') {
        expect(headers['op']).toBe('heartbeat');
        return;
      }
      ids.add(headers['id']!);
      expect(String(message.key)).toBe(`docs\0${change.key[0]}`);
      expect(headers).toMatchObject({ collection: 'docs', op: change.version.deleted ? 'delete' : 'upsert' });
      expect(headers['commit-time']).toMatch(/^2026-06-01T12:00:00\.\d{3}Z$/);
      expect(headers['lsn']).toMatch(/^1\/[0-9A-F]+$/);
    });
    expect(ids.size).toBe(total);
  });
});

async function consume(brokers: string[], topic: string, count: number): Promise<KafkaMessage[]> {
  const consumer = new Kafka({ brokers, logLevel: logLevel.NOTHING }).consumer({ groupId: `${topic}.group` });
  const found: KafkaMessage[] = [];
  await consumer.connect();
  await consumer.subscribe({ topic, fromBeginning: true });
  await new Promise<void>((resolve, reject) => {
    const eachMessage = async ({ message }: { message: KafkaMessage }): Promise<void> => {
      found.push(message);
      if (found.length === count) resolve();
    };
    consumer.run({ eachMessage }).catch(reject);
  });
  await consumer.disconnect();
  return found;
}
