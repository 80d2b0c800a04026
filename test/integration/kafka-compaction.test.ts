/** A topic that an operator turns compaction on for: readers that are behind notice that messages are gone, readers that are not go on. */
import { describe, expect, jest, test } from '@jest/globals';
import { randomUUID } from 'node:crypto';
import { Kafka, logLevel } from 'kafkajs';
import { KafkaLogReader } from '#core/changelog/reader.kafka.ts';
import { changeCodec } from '#core/changelog/schema.files.ts';
import { KafkaLogWriter } from '#core/changelog/writer.kafka.ts';
import { sharedKafka } from '#core/testing/broker.kafka.ts';
import { kafkaAvailable } from '#core/testing/kafka-jars.os.ts';
import { eventually } from '#core/testing/wait.process.ts';
import { BatchSource } from '../contract/log-batches.ts';
import { codeOf, heldAfter, keysOf, read } from './kafka-log-fixture.ts';

const availability = await kafkaAvailable();
if (availability.kind === 'unavailable')
  process.stderr.write(`skipped: compaction (${availability.reason})\n`);
const describeWithKafka = availability.kind === 'available' ? describe : describe.skip;
jest.setTimeout(120_000);
const topic = `pgquorum.test.${randomUUID()}`;
const compactConfig = { 'cleanup.policy': 'compact', 'segment.ms': '100', 'min.cleanable.dirty.ratio': '0', 'min.compaction.lag.ms': '0' }; // prettier-ignore

describeWithKafka('a topic that is compacted behind our back', () => {
  test('is position_lost for who has not read what is gone, never a gap; who has goes on; and a new writer refuses it', async () => {
    const kafka = await sharedKafka();
    const source = new BatchSource();
    const options = { kafka, topic, origin: source.origin, originName: 'eu', codec: changeCodec(), settings: { partitions: 1 } }; // prettier-ignore
    const writer = await KafkaLogWriter.open(options);
    const reader = () => new KafkaLogReader(options);
    const put = (keys: readonly string[]) =>
      writer.append(keys.map((key) => source.batch([{ key, kind: 'put' }])));
    await put(Array.from({ length: 30 }, (_, at) => `k${at % 3}`));
    await writer.append([source.batch([{ key: 'k0', kind: 'delete' }])]);
    const batches = await read(reader(), 31);
    const held = heldAfter(batches);
    const admin = new Kafka({ brokers: kafka.brokers, logLevel: logLevel.NOTHING }).admin();
    await admin.connect();
    await admin.alterConfigs({
      validateOnly: false,
      resources: [
        {
          type: 2,
          name: topic,
          configEntries: Object.entries(compactConfig).map(([name, value]) => ({ name, value })),
        },
      ],
    });
    await admin.disconnect();
    let rounds = 0;
    // The segment that is written to is never compacted: it ends with the next message after its time.
    await eventually(
      'messages are gone',
      async () => {
        await put([`later-${(rounds += 1)}`]);
        return (await codeOf(read(reader(), 1, new Map(), 5000))) === 'position_lost';
      },
      { withinMs: 60_000, everyMs: 300 },
    );
    expect(keysOf(await read(reader(), 1, held))[0]).toBe('later-1');
    expect(await codeOf(KafkaLogWriter.open(options))).toBe('preflight_failed');
    await writer.close();
  });
});
