/** Topics in the formats of others: read by Kafka Connect with Debezium's transform, by Debezium's own deserializer, and as CloudEvents. */
import { afterAll, beforeAll, describe, expect, jest, test } from '@jest/globals';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { spawn } from 'node:child_process';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import type { INestApplicationContext } from '@nestjs/common';
import { Kafka, logLevel } from 'kafkajs';
import pg from 'pg';
import { createCollection } from '#core/collections/catalog.pg.ts';
import { freePorts } from '#core/embedded/ports.os.ts';
import { createLogger } from '#core/observability/logger.process.ts';
import { sharedKafka } from '#core/testing/broker.kafka.ts';
import { testDefinition } from '#core/testing/cluster.pg.ts';
import { freshNodes, type FreshNodes } from '#core/testing/fresh-nodes.pg.ts';
import { startGuarded } from '#core/testing/guarded-server.os.ts';
import { connectAvailable, kafkaAvailable } from '#core/testing/kafka-jars.os.ts';
import { eventually } from '#core/testing/wait.process.ts';
import { formatTopicName } from '#core/topology/names.ts';
import { startReplicator } from '../../apps/replicator/src/app.module.ts';
import { settingsFor } from './gateway-fixture.ts';

const kafka = await kafkaAvailable();
const connect = await connectAvailable();
for (const { kind, ...rest } of [kafka, connect])
  if (kind === 'unavailable')
    process.stderr.write(`skipped: topics in other formats (${JSON.stringify(rest)})\n`);
const describeWithConnect =
  kafka.kind === 'available' && connect.kind === 'available' ? describe : describe.skip;
const jars = connect.kind === 'available' ? join(connect.jars, '*') : '';
jest.setTimeout(120_000);

interface Message {
  readonly key: string;
  readonly value: string;
  readonly headers: Record<string, string>;
}

describeWithConnect('topics in the formats of others', () => {
  const formats = ['debezium', 'debezium-schema', 'cloudevents'] as const;
  let brokers: string[];
  let fresh: FreshNodes;
  let folder: string;
  const replicators: INestApplicationContext[] = [];
  const replicate = async (format: string): Promise<INestApplicationContext> => {
    const replicator = await startReplicator(
      settingsFor(fresh.nodes, fresh.cluster, {
        PGQUORUM_KAFKA_BROKERS: brokers.join(','),
        PGQUORUM_KAFKA_PARTITIONS: '2',
        PGQUORUM_CHANGE_FORMAT: format,
      }),
      createLogger({ app: 'test', level: 'silent' }),
    );
    replicators.push(replicator);
    return replicator;
  };
  const sql = async (node: number, statement: string): Promise<void> => {
    const client = new pg.Client(fresh.nodes[node]!.url);
    await client.connect();
    await client.query(statement);
    await client.end();
  };

  beforeAll(async () => {
    ({ brokers } = await sharedKafka());
    fresh = await freshNodes({ count: 2 });
    folder = mkdtempSync(join(tmpdir(), 'pgquorum-connect-'));
    await replicate(formats[0]);
    const nodes = fresh.nodes.map(({ name, url, zone }) => ({ name, url, zone, weight: 1 }));
    await createCollection({ nodes, name: 'docs', definition: testDefinition });
    for (const node of [0, 1])
      await sql(
        node,
        `alter table docs add column n int8, add column price numeric(10,2), add column on_day date, add column at timestamptz, add column ok boolean, add column f float4, add column raw bytea`,
      );
    await Promise.all(formats.slice(1).map(replicate));
    await sql(0, `insert into docs (id, embedding, metadata) values ('first', '[1,0.1,-2]', '{"a": 1}')`);
    await sql(
      0,
      `insert into docs values ('full', '[1,2,3]', '{"long": 12345678901234567890}', 9007199254740993, 12.50, '2026-06-01', '2026-06-01T12:00:00.5Z', true, 0.1, '\\xff00')`,
    );
    await sql(0, `delete from docs where id = 'first'`);
  }, 120_000);

  afterAll(async () => {
    await Promise.all(replicators.map((replicator) => replicator.close()));
    await fresh[Symbol.asyncDispose]();
    rmSync(folder, { recursive: true, force: true });
  }, 60_000);

  /** All that a topic has, once there are as many as expected. */
  async function messages(format: string, count: number): Promise<Message[]> {
    const topic = formatTopicName(fresh.cluster, 'n1', format);
    const client = new Kafka({ brokers, logLevel: logLevel.NOTHING });
    const admin = client.admin();
    await admin.connect();
    await eventually(`${topic} is there`, async () => (await admin.listTopics()).includes(topic));
    await admin.disconnect();
    const consumer = client.consumer({ groupId: `${topic}.${Date.now()}` });
    const found: Message[] = [];
    await consumer.connect();
    await consumer.subscribe({ topic, fromBeginning: true });
    await consumer.run({
      eachMessage: async ({ message }) => {
        const headers = Object.entries(message.headers ?? {}).map(([name, value]) => [name, String(value)]);
        found.push({
          key: String(message.key),
          value: String(message.value),
          headers: Object.fromEntries(headers) as Record<string, string>,
        });
      },
    });
    await eventually(`${count} messages in ${topic}`, () => found.length >= count);
    await consumer.disconnect();
    return found;
  }

  test('Debezium without schemas: before, after, source, op and ts_ms, nothing null, and its own deserializer reads the rows', async () => {
    const found = await messages('debezium', 3);
    expect(found.length).toBe(3);
    const [upsert, deletion] = found.filter(({ key }) => key === '{"id":"first"}');
    expect(JSON.parse(upsert!.value)).toMatchObject({
      before: null,
      after: { id: 'first', embedding: [1, 0.1, -2], metadata: '{"a": 1}', n: null, price: null },
      source: {
        connector: 'pgquorum',
        name: `pgquorum.${fresh.cluster}.n1`,
        db: fresh.cluster,
        schema: 'public',
        table: 'docs',
        origin: 'n1',
        origin_number: 1,
        id: upsert!.headers['id'],
      },
      op: 'r',
      ts_ms: expect.any(Number),
    });
    expect(JSON.parse(deletion!.value)).toMatchObject({
      before: { id: 'first', embedding: null },
      after: null,
      op: 'd',
    });
    expect(deletion!.headers).toMatchObject({
      op: 'delete',
      'content-type': 'application/json',
      collection: 'docs',
    });
    const runner = join(import.meta.dirname, 'debezium/ReadValues.java');
    const java = spawn('java', ['-cp', jars, runner], { stdio: ['pipe', 'pipe', 'inherit'] });
    java.stdin.end(found.map(({ value }) => `${value}\n`).join(''));
    const lines = (await text(java.stdout)).trim().split('\n');
    expect(lines.toSorted()).toEqual([
      'after {at=2026-06-01T12:00:00.500000Z, embedding=[1, 2, 3], f=0.1, id=full, metadata={"long": 12345678901234567890}, n=9007199254740993, ok=true, on_day=20605, price=12.50, raw=/wA=}',
      'after {at=null, embedding=[1, 0.1, -2], f=null, id=first, metadata={"a": 1}, n=null, ok=null, on_day=null, price=null, raw=null}',
      'before {at=null, embedding=null, f=null, id=first, metadata=null, n=null, ok=null, on_day=null, price=null, raw=null}',
    ]);
  });

  test('Debezium with schemas: a Kafka Connect sink writes the rows that Debezium unwraps, with their types', async () => {
    await messages('debezium-schema', 3);
    const [port] = await freePorts(1);
    const file = join(folder, 'sink.txt');
    const converter = 'org.apache.kafka.connect.json.JsonConverter';
    writeFileSync(
      join(folder, 'worker.properties'),
      `bootstrap.servers=${brokers.join(',')}\nkey.converter=${converter}\nvalue.converter=${converter}\nlisteners=http://127.0.0.1:${port}\noffset.storage.file.filename=${join(folder, 'offsets')}\nplugin.discovery=service_load\noffset.flush.interval.ms=1000\n`,
    );
    writeFileSync(
      join(folder, 'sink.properties'),
      `name=sink\nconnector.class=org.apache.kafka.connect.file.FileStreamSinkConnector\ntasks.max=1\nfile=${file}\ntopics=${formatTopicName(fresh.cluster, 'n1', 'debezium-schema')}\ntransforms=unwrap\ntransforms.unwrap.type=io.debezium.transforms.ExtractNewRecordState\ntransforms.unwrap.delete.tombstone.handling.mode=rewrite\ntransforms.unwrap.add.fields=op,source.origin\n`,
    );
    const worker = await startGuarded({
      folder: join(folder, 'worker'),
      command: 'java',
      args: ['-Xmx256m', '-XX:TieredStopAtLevel=1', '-cp', jars, 'org.apache.kafka.connect.cli.ConnectStandalone', join(folder, 'worker.properties'), join(folder, 'sink.properties')], // prettier-ignore
    });
    try {
      const lines = await eventually(
        'the sink has written three rows',
        () => {
          if (!worker.running()) throw new Error(worker.log().slice(-3000));
          const found = readFileSync(file, 'utf8').trim().split('\n');
          return found.length >= 3 && found;
        },
        { withinMs: 60_000 },
      );
      const [full] = lines.filter((line) => line.includes('id=full'));
      expect(full).toContain('embedding=[1.0, 2.0, 3.0]');
      expect(full).toContain('n=9007199254740993');
      expect(full).toContain('price=12.50');
      expect(full).toContain('on_day=20605');
      expect(full).toContain('__deleted=false,__op=r,__source_origin=n1');
      expect(
        lines.filter((line) => line.includes('id=first,') && line.includes('__deleted=true,__op=d')),
      ).toHaveLength(1);
    } finally {
      await worker.end('SIGKILL', 10_000);
    }
  });

  test('CloudEvents: the content type says so, the id is that of the change, and numbers keep their digits', async () => {
    const found = await messages('cloudevents', 3);
    const full = found.find(({ key }) => key === 'docs\0full')!;
    expect(full.headers['content-type']).toBe('application/cloudevents+json; charset=UTF-8');
    expect(full.value).toContain('"metadata":{"long": 12345678901234567890}');
    expect(full.value).toContain('"n":9007199254740993');
    expect(JSON.parse(full.value)).toMatchObject({
      specversion: '1.0',
      id: full.headers['id'],
      source: `/pgquorum/${fresh.cluster}/n1`,
      type: 'pgquorum.change.upsert',
      subject: 'docs/full',
      time: expect.stringMatching(/Z$/),
      datacontenttype: 'application/json',
      data: {
        op: 'upsert',
        origin: 'n1',
        row: { id: 'full', price: 12.5, on_day: '2026-06-01', ok: true, f: 0.1 },
      },
    });
    const deletion = found.find(({ headers }) => headers['op'] === 'delete')!;
    expect(JSON.parse(deletion.value)).toMatchObject({
      type: 'pgquorum.change.delete',
      data: { key: 'first', row: null },
    });
  });

  test('a replicator that starts again goes on where it was', async () => {
    await Promise.all(replicators.splice(0).map((replicator) => replicator.close()));
    await sql(0, `insert into docs (id, embedding) values ('later', '[1,2,3]')`);
    await replicate('cloudevents');
    const found = await messages('cloudevents', 4);
    expect(found.map(({ key }) => key).filter((key) => key === 'docs\0later')).toHaveLength(1);
    expect(new Set(found.map(({ headers }) => headers['id'])).size).toBe(4);
  });
});
