import { describe, test } from '@jest/globals';
import { randomUUID } from 'node:crypto';
import { Kafka, logLevel } from 'kafkajs';
import { KafkaLogReader } from '#core/changelog/reader.kafka.ts';
import { changeCodec } from '#core/changelog/schema.files.ts';
import { KafkaLogWriter } from '#core/changelog/writer.kafka.ts';
import { sharedKafka } from '#core/testing/broker.kafka.ts';
import { kafkaAvailable } from '#core/testing/kafka-jars.os.ts';
import { changeLogContract, type ChangeLogHarness } from './change-log.ts';
import { BatchSource, collection } from './log-batches.ts';

const bytesAheadMax = 4 * 1024 * 1024;

async function openKafkaLog(): Promise<ChangeLogHarness> {
  const kafka = await sharedKafka();
  const topic = `pgquorum.contract.${randomUUID()}`;
  const source = new BatchSource();
  const options = { kafka, topic, origin: source.origin, codec: changeCodec() };
  const writer = await KafkaLogWriter.open({ ...options, originName: 'eu', settings: { partitions: 4 } });
  const withAdmin = async (use: (admin: ReturnType<Kafka['admin']>) => Promise<void>): Promise<void> => {
    const admin = new Kafka({ brokers: kafka.brokers, logLevel: logLevel.NOTHING }).admin();
    await admin.connect();
    try {
      await use(admin);
    } finally {
      await admin.disconnect();
    }
  };
  return {
    collection,
    write: (ops) => writer.append([source.batch(ops)]),
    openReader: async () => new KafkaLogReader({ ...options, bytesAheadMax }),
    beginning: async () => new Map(),
    forget: () =>
      withAdmin(async (admin) => {
        const ends = await admin.fetchTopicOffsets(topic);
        await admin.deleteTopicRecords({
          topic,
          partitions: ends.map(({ partition, high }) => ({ partition, offset: high })),
        });
      }),
    bytesAhead: (reader) => (reader as KafkaLogReader).bytesAhead,
    bytesAheadMax,
    close: async () => {
      await writer.close();
      await withAdmin((admin) => admin.deleteTopics({ topics: [topic] }));
    },
  };
}

const availability = await kafkaAvailable();
if (availability.kind === 'available') changeLogContract('Kafka', { readers: 'many', open: openKafkaLog });
else describe('the change log in Kafka', () => test.skip(`needs a broker: ${availability.reason}`, () => {}));
