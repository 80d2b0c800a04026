/**
 * A broker that dies: one that comes back with its data is no gap, one that has lost them is one for all who read. All masters are written to all the time, and at
 * the end they hold the same. In the long form alone: it needs a broker of its own, which it starts three times.
 */
import { describe, expect, jest, test } from '@jest/globals';
import { startKafka } from '#core/testing/broker.kafka.ts';
import { kafkaAvailable } from '#core/testing/kafka-jars.os.ts';
import { KafkaScene } from './kafka-gaps/scene.ts';

const availability = await kafkaAvailable();
const long = process.env['PGQUORUM_TEST_LONG'] === '1';
const describeLong = long && availability.kind === 'available' ? describe : describe.skip;

jest.setTimeout(600_000);

describeLong('with Kafka as the change log', () => {
  test('a broker that comes back with its data is no gap, and one that has lost them is noticed, shown and mended', async () => {
    await using broker = await startKafka();
    await using scene = await KafkaScene.start(broker.brokers);
    const { replicators } = scene;
    const before = await scene.resyncs();
    await broker.kill9();
    const meanwhile = await scene.written(1);
    await broker.start();
    for (const at of [0, 2]) await scene.arrived(at, () => meanwhile);
    expect(await scene.resyncs()).toEqual(before);

    // What was in the topics and not yet read everywhere is lost with them.
    await replicators[2]!.kill('SIGKILL');
    const missed = await scene.written(0);
    await scene.arrived(1, () => missed);
    await broker.kill9();
    await broker.loseData();
    const reason = /made anew|has no partition|ends before/;
    await scene.showsAndMends({ from: 'n1', to: 1, reason }, () => broker.start());
    expect(await scene.isThere(2, missed)).toBe(false);
    replicators[2]!.start();
    await scene.arrived(2, () => missed);
    await scene.allReady();
    await scene.finish();
  });
});
