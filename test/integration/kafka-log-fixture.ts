/** Logs in Kafka for one test, each a topic of its own; what was opened is closed after the test. */
import { afterEach } from '@jest/globals';
import { randomUUID } from 'node:crypto';
import { Kafka, logLevel, type Admin } from 'kafkajs';
import type { LogBatch } from '#core/changelog/change.ts';
import type { KafkaObserver } from '#core/changelog/client.kafka.ts';
import type { Positions } from '#core/changelog/port.ts';
import { KafkaLogReader } from '#core/changelog/reader.kafka.ts';
import type { Codec } from '#core/changelog/record-batch.ts';
import { changeCodec } from '#core/changelog/schema.files.ts';
import { KafkaLogWriter } from '#core/changelog/writer.kafka.ts';
import { isPgquorumError } from '#core/errors/error.ts';
import { sharedKafka } from '#core/testing/broker.kafka.ts';
import { BatchSource } from '../contract/log-batches.ts';

export const partitions = 4;
export const beginning: Positions = new Map();

export interface Log {
  readonly kafka: { readonly brokers: string[] };
  readonly topic: string;
  readonly source: BatchSource;
}

/** Called after the test, the last one first. */
export const closing: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close();
}, 60_000);

export const newLog = async (): Promise<Log> => ({
  kafka: await sharedKafka(),
  topic: `pgquorum.test.${randomUUID()}`,
  source: new BatchSource(),
});

export async function openWriter(
  { kafka, topic, source }: Log,
  extra: { observer?: KafkaObserver; compression?: Codec } = {},
): Promise<KafkaLogWriter> {
  const writer = await KafkaLogWriter.open({
    kafka,
    topic,
    origin: source.origin,
    originName: 'eu',
    codec: changeCodec(),
    settings: { partitions },
    ...extra,
  });
  closing.push(() => writer.close());
  return writer;
}

export function openReader(
  { kafka, topic, source }: Log,
  extra: { observer?: KafkaObserver; generation?: string | null } = {},
): KafkaLogReader {
  const reader = new KafkaLogReader({ kafka, topic, origin: source.origin, codec: changeCodec(), ...extra });
  closing.push(() => reader.close());
  return reader;
}

export async function withAdmin<T>({ kafka }: Log, use: (admin: Admin) => Promise<T>): Promise<T> {
  const admin = new Kafka({ brokers: kafka.brokers, logLevel: logLevel.NOTHING }).admin();
  await admin.connect();
  try {
    return await use(admin);
  } finally {
    await admin.disconnect();
  }
}

/** Reads until so many changes were delivered; a longer wait than the deadline fails. */
export async function read(
  reader: KafkaLogReader,
  count: number,
  from: Positions = beginning,
  deadlineMs = 60_000,
): Promise<LogBatch[]> {
  const batches: LogBatch[] = [];
  let changes = 0;
  for await (const batch of reader.read({ from, signal: AbortSignal.timeout(deadlineMs) })) {
    batches.push(batch);
    changes += batch.changes.length;
    if (changes >= count) return batches;
  }
  throw new Error(`${changes} changes of ${count} arrived within ${deadlineMs} ms`);
}

export const keysOf = (batches: readonly LogBatch[]): string[] =>
  batches
    .flatMap(({ changes }) => changes)
    .flatMap((change) => (change.kind === 'write' ? [change.key[0]!] : []));
export const heldAfter = (batches: readonly LogBatch[]): Positions =>
  new Map(batches.map(({ stream, position }) => [stream, position!]));

export async function codeOf(work: Promise<unknown>): Promise<string | null> {
  return work.then(
    () => null,
    (error: unknown) => (isPgquorumError(error) ? error.code : String(error)),
  );
}
