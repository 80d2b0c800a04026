/**
 * When a topic's messages came, by the broker's own clock (LogAppendTime): nobody reads along while something is measured, so that reading costs
 * neither side anything.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { Kafka, logLevel, type Admin } from 'kafkajs';
import { rootCause } from '#core/changelog/client.kafka.ts';
import { mendRequestQueue } from '#core/changelog/internals.kafka.ts';

const pollMs = 100;

export class TopicClock implements AsyncDisposable {
  readonly #kafka: Kafka;
  readonly #admin: Admin;
  readonly #topic: string;

  private constructor(kafka: Kafka, admin: Admin, topic: string) {
    this.#kafka = kafka;
    this.#admin = admin;
    this.#topic = topic;
  }

  static async open(brokers: readonly string[], topic: string): Promise<TopicClock> {
    mendRequestQueue();
    const kafka = new Kafka({ brokers: [...brokers], logLevel: logLevel.NOTHING });
    const admin = kafka.admin();
    await admin.connect();
    return new TopicClock(kafka, admin, topic);
  }

  /** One partition, and the broker's time in every message. */
  async make(): Promise<void> {
    const configEntries = [{ name: 'message.timestamp.type', value: 'LogAppendTime' }];
    await this.#admin.createTopics({
      waitForLeaders: false,
      topics: [{ topic: this.#topic, numPartitions: 1, replicationFactor: 1, configEntries }],
    });
  }

  /** Messages in the topic; none when there is no such topic yet, or it has no leader yet. */
  async count(): Promise<number> {
    try {
      return sum(await this.#admin.fetchTopicOffsets(this.#topic));
    } catch (cause) {
      if (rootCause(cause).type === 'UNKNOWN_TOPIC_OR_PARTITION') return 0;
      throw cause;
    }
  }

  /** Waits until the topic has `count` messages. */
  async reaches(count: number, withinMs: number): Promise<void> {
    const deadline = performance.now() + withinMs;
    for (;;) {
      const here = await this.count();
      if (here >= count) return;
      if (performance.now() > deadline)
        throw new Error(`${this.#topic} has ${here} messages instead of ${count}`);
      await delay(pollMs);
    }
  }

  /** The time, in ms since 1970, at which the topic came to have `count` messages. It has them. */
  async timeOf(count: number, sinceMs: number): Promise<number> {
    let early = sinceMs;
    let late = Date.now() + 1;
    while (late - early > 1) {
      const middle = Math.floor((early + late) / 2);
      // Messages that are older than `middle`: their time is below it.
      if (sum(await this.#admin.fetchTopicOffsetsByTimestamp(this.#topic, middle)) >= count) late = middle;
      else early = middle;
    }
    return early;
  }

  /** Key and time of each message from an offset of the only partition on. */
  async read(from: number, count: number, found: (key: string, ms: number) => void): Promise<void> {
    const consumer = this.#kafka.consumer({ groupId: `bench-${this.#topic}-${from}` });
    await consumer.connect();
    try {
      await consumer.subscribe({ topic: this.#topic });
      let left = count;
      await new Promise<void>((resolve, reject) => {
        consumer.on(consumer.events.CRASH, ({ payload }) => reject(payload.error));
        consumer
          .run({
            eachMessage: async ({ message }) => {
              if (Number(message.offset) < from) return;
              found(String(message.key), Number(message.timestamp));
              left -= 1;
              if (left === 0) resolve();
            },
          })
          .catch(reject);
        consumer.seek({ topic: this.#topic, partition: 0, offset: String(from) });
      });
    } finally {
      await consumer.disconnect();
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#admin.disconnect();
  }
}

const sum = (offsets: readonly { offset: string }[]): number =>
  offsets.reduce((total, { offset }) => total + Number(offset), 0);
