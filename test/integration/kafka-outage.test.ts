/** The Kafka change log while its broker dies, stops and comes back. */
import { describe, expect, test } from '@jest/globals';
import { randomUUID } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import type { KafkaObserver } from '#core/changelog/client.kafka.ts';
import { startKafka } from '#core/testing/broker.kafka.ts';
import { kafkaAvailable } from '#core/testing/kafka-jars.os.ts';
import { BatchSource } from '../contract/log-batches.ts';
import { beginning, openReader, openWriter, type Log } from './kafka-log-fixture.ts';

const availability = await kafkaAvailable();
if (availability.kind === 'unavailable')
  process.stderr.write(`skipped: outages of Kafka (${availability.reason})\n`);
const describeWithKafka = availability.kind === 'available' ? describe : describe.skip;

describeWithKafka('while the broker is killed and comes back', () => {
  test('no change is lost, none overtakes another one of its key, and both sides tell of it', async () => {
    await using broker = await startKafka();
    const log: Log = {
      kafka: { brokers: broker.brokers },
      topic: `pgquorum.test.${randomUUID()}`,
      source: new BatchSource(),
    };
    const failed = new Set<string>();
    const recovered = new Set<string>();
    const observer: KafkaObserver = {
      failed: ({ doing }) => failed.add(doing),
      recovered: ({ doing }) => recovered.add(doing),
    };
    const writer = await openWriter(log, { observer });
    const rounds = 300;
    const keys = Array.from({ length: 10 }, (_, at) => `k${at}`);
    const counters = new Map<string, number[]>();
    const reading = (async () => {
      for await (const { changes } of openReader(log, { observer }).read({
        from: beginning,
        signal: AbortSignal.timeout(110_000),
      })) {
        for (const change of changes) {
          if (change.kind !== 'write') continue;
          const found = counters.get(change.key[0]!) ?? [];
          found.push(change.version.dot.counter);
          counters.set(change.key[0]!, found);
        }
        if (keys.every((key) => new Set(counters.get(key)).size >= rounds)) return;
      }
    })();

    const appends: Promise<void>[] = [];
    for (let round = 0; round < rounds; round += 1) {
      appends.push(writer.append([log.source.batch(keys.map((key) => ({ key, kind: 'put', size: 500 })))]));
      await delay(5);
      if (round === 100) await broker.kill9();
      if (round === 150) await broker.start();
      if (round === 220) {
        await broker.stop();
        await broker.start();
      }
    }
    await Promise.all(appends);
    await reading;
    for (const key of keys) {
      const found = counters.get(key)!;
      const first = found.filter((counter, at) => found.indexOf(counter) === at);
      expect(first).toEqual(first.toSorted((a, b) => a - b));
      expect(first.length).toBe(rounds);
    }
    expect(failed).toEqual(new Set(['reading', 'appending']));
    expect(recovered).toEqual(new Set(['reading', 'appending']));
  }, 180_000);
});
