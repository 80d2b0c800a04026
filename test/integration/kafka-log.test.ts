/** What the Kafka change log promises beyond the contract of all change logs (test/contract/change-log.ts). */
import { describe, expect, jest, test } from '@jest/globals';
import { once } from 'node:events';
import net from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import { Kafka, logLevel } from 'kafkajs';
import type { Change } from '#core/changelog/change.ts';
import { codecs } from '#core/changelog/record-batch.ts';
import { kafkaAvailable } from '#core/testing/kafka-jars.os.ts';
import { BatchSource } from '../contract/log-batches.ts';
import {
  beginning,
  closing,
  codeOf,
  heldAfter,
  keysOf,
  newLog,
  openReader,
  openWriter,
  partitions,
  read,
  withAdmin,
} from './kafka-log-fixture.ts';

const availability = await kafkaAvailable();
if (availability.kind === 'unavailable')
  process.stderr.write(`skipped: the Kafka change log (${availability.reason})\n`);
const describeWithKafka = availability.kind === 'available' ? describe : describe.skip;

jest.setTimeout(120_000);

describeWithKafka('the topic of an origin', () => {
  test('is made with settings under which no change disappears unseen', async () => {
    const log = await newLog();
    await openWriter(log);
    await openWriter(log);
    const { resources } = await withAdmin(log, (admin) =>
      admin.describeConfigs({ includeSynonyms: false, resources: [{ type: 2, name: log.topic }] }),
    );
    const found = Object.fromEntries(
      resources[0]!.configEntries.map(({ configName, configValue }) => [configName, configValue]),
    );
    expect(found).toMatchObject({
      'cleanup.policy': 'delete',
      'retention.ms': '604800000',
      'min.insync.replicas': '1',
      'max.message.bytes': '67108864',
      'message.timestamp.type': 'LogAppendTime',
      'compression.type': 'producer',
    });
    const { topics } = await withAdmin(log, (admin) => admin.fetchTopicMetadata({ topics: [log.topic] }));
    expect(topics[0]!.partitions.length).toBe(partitions);
  });

  test('is refused when it is compacted', async () => {
    const log = await newLog();
    await withAdmin(log, (admin) =>
      admin.createTopics({
        waitForLeaders: false,
        topics: [
          {
            topic: log.topic,
            numPartitions: 1,
            configEntries: [{ name: 'cleanup.policy', value: 'compact' }],
          },
        ],
      }),
    );
    expect(await codeOf(openWriter(log))).toBe('preflight_failed');
  });

  test('has a heartbeat in every partition, so that none looks idle', async () => {
    const log = await newLog();
    const writer = await openWriter(log);
    await writer.append([log.source.heartbeat()]);
    const batches = await read(openReader(log), partitions);
    expect(batches.map(({ stream }) => stream).toSorted((a, b) => a - b)).toEqual([0, 1, 2, 3]);
    expect(batches.flatMap(({ changes }) => changes)).toEqual(
      Array.from({ length: partitions }, () => ({ kind: 'heartbeat' })),
    );
    expect([...(await writer.positions()).values()]).toEqual(
      Array.from({ length: partitions }, () => ({ first: -1n, end: 0n })),
    );
  });

  test.each(codecs.filter((codec) => codec !== 'none'))(
    'may hold messages compressed with %s, as the broker checks them',
    async (codec) => {
      const log = await newLog();
      const writer = await openWriter(log, { compression: codec });
      const ops = Array.from({ length: 40 }, (_, at) => ({
        key: `k${at}`,
        kind: 'put' as const,
        size: 10_000,
      }));
      const batch = log.source.batch([...ops, { key: 'gone', kind: 'delete' }]);
      await writer.append([batch]);
      const found = await read(openReader(log), batch.changes.length);
      const byKey = (changes: readonly Change[]) =>
        new Map(changes.map((change) => [change.kind === 'write' ? change.key[0] : change.kind, change]));
      expect(byKey(found.flatMap(({ changes }) => changes))).toEqual(byKey(batch.changes));
    },
  );

  test('keeps together what a transaction wrote to a partition', async () => {
    const log = await newLog();
    const writer = await openWriter(log);
    const ops = Array.from({ length: 100 }, (_, at) => ({ key: `k${at}`, kind: 'put' as const }));
    const batch = log.source.batch(ops);
    await writer.append([batch]);
    const batches = await read(openReader(log), 100);
    expect(batches.length).toBe(partitions);
    for (const found of batches)
      expect(found).toMatchObject({
        origin: 1,
        commitLsn: batch.commitLsn,
        commitTimeMs: batch.commitTimeMs,
      });
  });
});

describeWithKafka('the writer', () => {
  test('refuses a change that is larger than the topic takes, and is finished then', async () => {
    const log = await newLog();
    await withAdmin(log, (admin) =>
      admin.createTopics({
        waitForLeaders: false,
        topics: [
          {
            topic: log.topic,
            numPartitions: 1,
            configEntries: [{ name: 'max.message.bytes', value: '50000' }],
          },
        ],
      }),
    );
    const writer = await openWriter(log);
    expect(await codeOf(writer.append([log.source.batch([{ key: 'a', kind: 'put', size: 60_000 }])]))).toBe(
      'not_supported',
    );
    expect(await codeOf(writer.append([log.source.batch([{ key: 'b', kind: 'put' }])]))).toBe(
      'not_supported',
    );
  });

  test('sends what is too large together in smaller requests', async () => {
    const log = await newLog();
    await withAdmin(log, (admin) =>
      admin.createTopics({
        waitForLeaders: false,
        topics: [
          {
            topic: log.topic,
            numPartitions: 1,
            configEntries: [{ name: 'max.message.bytes', value: '50000' }],
          },
        ],
      }),
    );
    const writer = await openWriter(log);
    const keys = Array.from({ length: 20 }, (_, at) => `k${at}`);
    await writer.append([log.source.batch(keys.map((key) => ({ key, kind: 'put', size: 8_000 })))]);
    await writer.append([log.source.batch([{ key: 'after', kind: 'put' }])]);
    const found = keysOf(await read(openReader(log), 21));
    expect([...new Set(found)]).toEqual([...keys, 'after']);
  });

  test('rejects what is under way when it is closed', async () => {
    const log = await newLog();
    const writer = await openWriter(log);
    const under = codeOf(writer.append([log.source.batch([{ key: 'a', kind: 'put' }])]));
    await writer.close();
    expect(await under).toBe('shutting_down');
    expect(await codeOf(writer.append([]))).toBe('shutting_down');
  });

  test('makes the topic again when somebody deleted it, and readers notice', async () => {
    const log = await newLog();
    const writer = await openWriter(log);
    await writer.append([log.source.batch([{ key: 'a', kind: 'put' }])]);
    const reader = openReader(log);
    const held = heldAfter(await read(reader, 1));
    await withAdmin(log, (admin) => admin.deleteTopics({ topics: [log.topic] }));
    await writer.append([log.source.batch([{ key: 'b', kind: 'put' }])]);
    expect(await codeOf(read(openReader(log, { generation: reader.generation }), 1, held))).toBe(
      'position_lost',
    );
    expect(keysOf(await read(openReader(log), 1))).toEqual(['b']);
  });
});

describeWithKafka('the reader', () => {
  test('waits for a topic that does not exist yet, and says so', async () => {
    const log = await newLog();
    const failures: string[] = [];
    let recovered = 0;
    const reader = openReader(log, {
      observer: { failed: ({ doing }) => failures.push(doing), recovered: () => (recovered += 1) },
    });
    const reading = read(reader, 1);
    while (failures.length < 2) await delay(20);
    const writer = await openWriter(log);
    await writer.append([log.source.batch([{ key: 'a', kind: 'put' }])]);
    expect(keysOf(await reading)).toEqual(['a']);
    expect(new Set(failures)).toEqual(new Set(['reading']));
    expect(recovered).toBe(1);
  });

  test('knows a topic that was made anew by its id, even when it has grown beyond the positions', async () => {
    const log = await newLog();
    const ops = Array.from({ length: 40 }, (_, at) => ({ key: `k${at}`, kind: 'put' as const }));
    const writer = await openWriter(log);
    await writer.append([log.source.batch(ops)]);
    const reader = openReader(log);
    const held = heldAfter(await read(reader, 40));
    const { generation } = reader;
    expect(generation).toMatch(/^[0-9a-f-]{36}$/);
    await writer.close();
    await withAdmin(log, (admin) => admin.deleteTopics({ topics: [log.topic] }));
    const anew = await openWriter(log);
    await anew.append([log.source.batch(ops), log.source.batch(ops)]);
    expect(await codeOf(read(openReader(log, { generation }), 1, held))).toBe('position_lost');
    const fresh = openReader(log);
    await read(fresh, 80);
    expect(fresh.generation).not.toBe(generation);
  });

  test('notices while it reads that the topic was made anew', async () => {
    const log = await newLog();
    const writer = await openWriter(log);
    await writer.append([log.source.batch([{ key: 'a', kind: 'put' }])]);
    const seen: string[] = [];
    const reading = codeOf(
      (async () => {
        for await (const batch of openReader(log).read({
          from: beginning,
          signal: AbortSignal.timeout(30_000),
        }))
          seen.push(...keysOf([batch]));
      })(),
    );
    while (seen.length === 0) await delay(10);
    await writer.close();
    await withAdmin(log, (admin) => admin.deleteTopics({ topics: [log.topic] }));
    const anew = await openWriter(log);
    await anew.append([
      log.source.batch(Array.from({ length: 40 }, (_, at) => ({ key: `k${at}`, kind: 'put' }))),
    ]);
    expect(await reading).toBe('position_lost');
    expect(seen).toEqual(['a']);
  });

  test('finds positions beyond the end of a topic lost, also without knowing its generation', async () => {
    const log = await newLog();
    await openWriter(log);
    expect(await codeOf(read(openReader(log), 1, new Map([[0, 5n]])))).toBe('position_lost');
    expect(await codeOf(read(openReader(log), 1, new Map([[9, 0n]])))).toBe('position_lost');
  });

  test('stops at a message that it does not understand and names its place', async () => {
    const log = await newLog();
    await openWriter(log);
    const producer = new Kafka({ brokers: log.kafka.brokers, logLevel: logLevel.NOTHING }).producer();
    await producer.connect();
    await producer.send({
      topic: log.topic,
      messages: [{ partition: 2, key: 'k', value: '{}', headers: { 'content-type': 'application/json' } }],
    });
    await producer.disconnect();
    await expect(read(openReader(log), 1)).rejects.toThrow(
      /not_supported: partition 2, offset 0: .*application\/json/,
    );
  });

  test('ends within a second when the broker accepts connections and never answers', async () => {
    const silent = net.createServer();
    silent.listen(0, '127.0.0.1');
    await once(silent, 'listening');
    const sockets = new Set<net.Socket>();
    silent.on('connection', (socket) => sockets.add(socket.on('error', () => undefined)));
    closing.push(async () => {
      for (const socket of sockets) socket.destroy();
      silent.close();
    });
    const { port } = silent.address() as net.AddressInfo;
    const reader = openReader({
      kafka: { brokers: [`127.0.0.1:${port}`] },
      topic: 't',
      source: new BatchSource(),
    });
    const stop = new AbortController();
    setTimeout(() => stop.abort(), 300);
    const started = performance.now();
    for await (const _ of reader.read({ from: beginning, signal: stop.signal }))
      throw new Error('nothing can arrive');
    expect(performance.now() - started).toBeLessThan(1_300);
  });
});
