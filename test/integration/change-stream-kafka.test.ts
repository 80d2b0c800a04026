/** Changes for others, from Kafka: the same stream, resumed at another gateway while a node is down, and 410 when the topic is another one. */
import { afterAll, beforeAll, describe, expect, jest, test } from '@jest/globals';
import type { INestApplicationContext } from '@nestjs/common';
import { Kafka, logLevel } from 'kafkajs';
import { createLogger } from '#core/observability/logger.process.ts';
import { sharedKafka } from '#core/testing/broker.kafka.ts';
import { freshNodes, type FreshNodes } from '#core/testing/fresh-nodes.pg.ts';
import { kafkaAvailable } from '#core/testing/kafka-jars.os.ts';
import { eventually } from '#core/testing/wait.process.ts';
import { topicName } from '#core/topology/names.ts';
import { startReplicator } from '../../apps/replicator/src/app.module.ts';
import { ChangeListener, listen } from './change-listener.ts';
import { settingsFor, startGateway, type TestGateway } from './gateway-fixture.ts';

const availability = await kafkaAvailable();
if (availability.kind === 'unavailable')
  process.stderr.write(`skipped: streams of changes from Kafka (${availability.reason})\n`);
const describeWithKafka = availability.kind === 'available' ? describe : describe.skip;
jest.setTimeout(120_000);

describeWithKafka('streams of changes from Kafka', () => {
  let fresh: FreshNodes;
  let env: Record<string, string>;
  let replicator: INestApplicationContext;
  let gateway: TestGateway;
  const start = () => startGateway({ nodes: fresh.nodes, cluster: fresh.cluster, env });
  const base = (): string => `http://127.0.0.1:${gateway.gateway.httpPort}`;

  beforeAll(async () => {
    const { brokers } = await sharedKafka();
    fresh = await freshNodes({ count: 2 });
    env = { PGQUORUM_KAFKA_BROKERS: brokers.join(','), PGQUORUM_KAFKA_PARTITIONS: '3' };
    replicator = await startReplicator(
      settingsFor(fresh.nodes, fresh.cluster, env),
      createLogger({ app: 'test', level: 'silent' }),
    );
    gateway = await start();
    await gateway.send('PUT', '/v1/collections/docs', { body: { dimension: 3 } });
  }, 120_000);

  afterAll(async () => {
    await gateway[Symbol.asyncDispose]();
    await replicator.close().catch(() => undefined); // a test has closed it already
    await fresh[Symbol.asyncDispose]();
  }, 60_000);

  const insert = (node: number, ids: readonly string[]) =>
    gateway.sql(
      node,
      `insert into docs (id, embedding) select i, '[1,2,3]' from unnest($1::text[]) i on conflict (id) do update set embedding = excluded.embedding`,
      [ids],
    );

  test('every change of all nodes is told once, though all nodes hold it, and the stream goes on at another gateway', async () => {
    const first = await eventually('the topics are there', () => listen(base()));
    const ids = Array.from({ length: 20 }, (_, at) => `d${at}`);
    await insert(0, ids);
    await insert(1, ['e']);
    await first.until(21);
    expect(first.keys.toSorted()).toEqual([...ids, 'e'].toSorted());
    await first.close();
    await gateway[Symbol.asyncDispose]();
    gateway = await start();
    await insert(0, ids);
    await insert(0, ids);
    await using second = await listen(base(), { from: first.last });
    await second.until(40);
    const told = second.changes
      .filter(({ key }) => key === 'd7')
      .map(({ version }) => Number(version.counter));
    expect(told.length).toBe(2);
    expect(told[1]).toBeGreaterThan(told[0]!);
    expect(second.keys).not.toContain('e');
  });

  test('a topic that was made anew is another log: 410 position_expired', async () => {
    const before = await listen(base());
    await insert(1, ['x']);
    await before.until(1);
    await before.close();
    await replicator.close(); // it would make the topic anew itself
    const topic = topicName(fresh.cluster, 'n2');
    const admin = new Kafka({
      brokers: env['PGQUORUM_KAFKA_BROKERS']!.split(','),
      logLevel: logLevel.NOTHING,
    }).admin();
    await admin.connect();
    await admin.deleteTopics({ topics: [topic] });
    await eventually('it is gone', async () => !(await admin.listTopics()).includes(topic));
    await eventually('another one is there', async () => {
      await admin.createTopics({ topics: [{ topic, numPartitions: 3 }], waitForLeaders: false });
      return (await admin.listTopics()).includes(topic);
    });
    await admin.disconnect();
    const answer = await eventually('it can be asked', async () => {
      const opened = await ChangeListener.open(base(), { from: before.last });
      if (opened instanceof ChangeListener) await opened.close();
      return opened instanceof ChangeListener || opened.status === 503 ? null : opened;
    });
    expect(answer).toMatchObject({ status: 410, code: 'position_expired' });
  });
});
