/** What the producer of the change log leaves to Kafka: recognising a batch that comes again. */
import { beforeAll, describe, expect, jest, test } from '@jest/globals';
import { BackwardBytes } from '#core/changelog/backward-bytes.ts';
import { writePartitionHeader } from '#core/changelog/produce.ts';
import { KafkaProducer, type PartitionBatch } from '#core/changelog/producer.kafka.ts';
import { writeBatchHeader, writeRecords } from '#core/changelog/record-batch.ts';
import { kafkaAvailable } from '#core/testing/kafka-jars.os.ts';
import { eventually } from '#core/testing/wait.process.ts';
import { closing, newLog, openWriter, partitions, withAdmin } from './kafka-log-fixture.ts';

const availability = await kafkaAvailable();
if (availability.kind === 'unavailable')
  process.stderr.write(`skipped: the producer for Kafka (${availability.reason})\n`);
const describeWithKafka = availability.kind === 'available' ? describe : describe.skip;

jest.setTimeout(120_000);

function batchOf(partition: number, count: number, valueBytes = 10): PartitionBatch {
  const bytes = new BackwardBytes(256);
  writeRecords(bytes, count, (index) => ({
    key: `k${index}`,
    headers: {},
    writeValue: (into) => into.bytes(Buffer.alloc(valueBytes, index)),
  }));
  writeBatchHeader(bytes, { count, recordBytes: bytes.length, timeMs: Date.now(), codec: 'none' });
  writePartitionHeader(bytes, partition, bytes.length);
  return { partition, count, bytes: bytes.view(), state: 'waiting' };
}

/** As it is after an answer that was lost. */
const again = (batch: PartitionBatch): PartitionBatch => Object.assign(batch, { state: 'waiting' });

async function newTopic(
  configEntries: { name: string; value: string }[] = [],
): Promise<{ readonly producer: KafkaProducer; readonly ends: () => Promise<bigint[]> }> {
  const log = await newLog();
  await withAdmin(log, (admin) =>
    admin.createTopics({
      waitForLeaders: true,
      topics: [{ topic: log.topic, numPartitions: partitions, configEntries }],
    }),
  );
  const writer = await openWriter(log);
  const producer = new KafkaProducer(log.kafka, log.topic);
  closing.push(async () => producer.disconnect());
  const ends = async () => {
    // A broker that has just become the leader of a new topic may say for a moment that it is not.
    const held = await eventually('the topic can be asked', () => writer.positions());
    return Array.from({ length: partitions }, (_, partition) => held.get(partition)!.end + 1n);
  };
  return { producer, ends };
}

/** A broker that has just started gives out no names yet; the writer tries again by itself. */
async function namesAreGivenOut(): Promise<void> {
  const log = await newLog();
  const writer = await openWriter(log);
  await writer.append([log.source.heartbeat()]);
}

describeWithKafka('a batch that Kafka has already', () => {
  beforeAll(namesAreGivenOut, 60_000);

  test('is acknowledged once more and not kept twice, over the same connection and over a new one', async () => {
    const { producer, ends } = await newTopic();
    const [first, second] = [batchOf(0, 3), batchOf(2, 5)];
    await producer.send([first, second]);
    expect([first.state, second.state]).toEqual(['durable', 'durable']);
    await producer.send([again(first), again(second)]);
    producer.disconnect();
    await producer.send([again(first), again(second)]);
    expect([first.state, second.state]).toEqual(['durable', 'durable']);
    expect(await ends()).toEqual([3n, 0n, 5n, 0n]);
  });

  test('is kept again under a new name, which is what makes the log at least once', async () => {
    const { producer, ends } = await newTopic();
    const batch = batchOf(1, 2);
    await producer.send([batch]);
    producer.forget();
    await producer.send([again(batch)]);
    expect(await ends()).toEqual([0n, 4n, 0n, 0n]);
  });

  test('does not keep those after it from being numbered on', async () => {
    const { producer, ends } = await newTopic();
    for (let round = 0; round < 20; round += 1) {
      const batch = batchOf(3, 1 + (round % 4));
      await producer.send([batch]);
      if (round % 5 === 0) await producer.send([again(batch)]);
    }
    expect(await ends()).toEqual([0n, 0n, 0n, 50n]);
  });
});

describeWithKafka('a batch that Kafka refuses', () => {
  test('says why, and those beside it are durable', async () => {
    const { producer, ends } = await newTopic([{ name: 'max.message.bytes', value: '1000' }]);
    const [good, bad] = [batchOf(0, 1), batchOf(1, 1, 2000)];
    await expect(producer.send([good, bad])).rejects.toThrow();
    expect(good.state).toBe('durable');
    expect(bad.state).toMatchObject({ type: 'MESSAGE_TOO_LARGE' });
    const smaller = batchOf(1, 4);
    await producer.send([smaller]);
    expect(await ends()).toEqual([1n, 4n, 0n, 0n]);
  });

  test('of a partition that the topic does not have tells that it was made anew', async () => {
    const { producer } = await newTopic();
    await expect(producer.send([batchOf(9, 1)])).rejects.toThrow(/not_ready.*no partition 9/);
  });
});
