import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { type Admin, Kafka, logLevel } from 'kafkajs';
import { sharedKafka, startKafka } from '#core/testing/broker.kafka.ts';
import { kafkaAvailable } from '#core/testing/kafka-jars.os.ts';
import { startGuarded } from '#core/testing/guarded-server.os.ts';
import { eventually } from '#core/testing/wait.process.ts';
import { testRunFolder } from '#core/testing/test-run.os.ts';

const availability = await kafkaAvailable();
if (availability.kind === 'unavailable') process.stderr.write(`skipped: Kafka (${availability.reason})\n`);
const describeWithKafka = availability.kind === 'available' ? describe : describe.skip;

function client(brokers: string[]): Kafka {
  return new Kafka({
    clientId: 'broker-test',
    brokers,
    logLevel: logLevel.NOTHING,
    retry: { retries: 3, initialRetryTime: 50 },
  });
}

async function readAll(kafka: Kafka, topic: string, count: number): Promise<string[]> {
  const consumer = kafka.consumer({ groupId: `${topic}-readers` });
  const values: string[] = [];
  await consumer.connect();
  await consumer.subscribe({ topic, fromBeginning: true });
  await new Promise<void>((resolve, reject) => {
    const eachMessage = async ({ message }: { message: { value: Buffer | null } }): Promise<void> => {
      values.push(String(message.value));
      if (values.length === count) resolve();
    };
    consumer.run({ eachMessage }).catch(reject);
  });
  await consumer.disconnect();
  return values;
}

async function produce(kafka: Kafka, topic: string, values: string[]): Promise<void> {
  const producer = kafka.producer();
  await producer.connect();
  try {
    await producer.send({ topic, acks: -1, messages: values.map((value) => ({ key: 'k', value })) });
  } finally {
    await producer.disconnect();
  }
}

describeWithKafka('the broker of the test run', () => {
  let kafka: Kafka;
  let admin: Admin;
  const topic = `broker-test-${process.pid}`;

  beforeAll(async () => {
    kafka = client((await sharedKafka()).brokers);
    admin = kafka.admin();
    await admin.connect();
  }, 120_000);
  afterAll(() => admin?.disconnect());

  test('is the same one for everybody who asks', async () => {
    expect(await sharedKafka()).toEqual(await sharedKafka());
    expect(existsSync(testRunFolder('kafka', 'server.properties'))).toBe(true);
  });

  test('keeps messages of a key in the order in which they were produced, until their topic is deleted', async () => {
    const values = Array.from({ length: 50 }, (_, index) => `value ${index}`);
    await admin.createTopics({ topics: [{ topic, numPartitions: 2 }], waitForLeaders: true });
    await produce(kafka, topic, values);
    expect(await readAll(kafka, topic, values.length)).toEqual(values);
    await admin.deleteTopics({ topics: [topic] });
    await eventually('the topic is gone', async () => !(await admin.listTopics()).includes(topic));
  }, 60_000);

  test('creates no topic by itself', async () => {
    await expect(produce(client((await sharedKafka()).brokers), 'nobody-made-me', ['x'])).rejects.toThrow();
    expect(await admin.listTopics()).not.toContain('nobody-made-me');
  }, 60_000);
});

describeWithKafka('a broker of one test', () => {
  test('comes back on its port with its messages after being killed, and again after being stopped', async () => {
    await using broker = await startKafka({ segmentBytes: 1024 * 1024, retentionCheckMs: 500 });
    const kafka = client(broker.brokers);
    const admin = kafka.admin();
    await admin.connect();
    await admin.createTopics({ topics: [{ topic: 't', numPartitions: 1 }], waitForLeaders: true });
    await admin.disconnect();
    await produce(kafka, 't', ['one']);
    await broker.kill9();
    await expect(produce(kafka, 't', ['lost'])).rejects.toThrow();
    await broker.start();
    await produce(kafka, 't', ['two']);
    await broker.stop();
    await broker.start();
    expect(await readAll(kafka, 't', 2)).toEqual(['one', 'two']);
  }, 120_000);
});

describe('a guarded server', () => {
  test('ends, and its folder goes, when the process that is watched has been killed', async () => {
    const watched = spawn('sleep', ['60'], { stdio: 'ignore' });
    const folder = testRunFolder('guarded');
    const server = await startGuarded({
      folder,
      command: 'sleep',
      args: ['60'],
      watchedPid: watched.pid ?? 0,
    });
    expect(server.running()).toBe(true);
    watched.kill('SIGKILL');
    const deadline = Date.now() + 10_000;
    while (existsSync(folder) && Date.now() < deadline) await delay(20);
    expect(server.running()).toBe(false);
    expect(existsSync(folder)).toBe(false);
  }, 20_000);
});
