/**
 * Appends the messages of some partitions of a topic.
 *
 * Order: a partition belongs to one lane, and a lane has one request on the wire for each leader: the next ones leave when the ones before are
 * durable. So a retry never overtakes. Throughput comes from several lanes, each with its own producer, and from filling a request with all that
 * has queued up meanwhile. Messages are written once, into the memory that they are sent from, which the next request uses again.
 */
import { PgquorumError } from '../errors/error.ts';
import { BackwardBytes } from './backward-bytes.ts';
import type { Change } from './change.ts';
import { Backoff, rootCause } from './client.kafka.ts';
import { compress } from './compression.process.ts';
import type { Commit } from './message.ts';
import { writePartitionHeader } from './produce.ts';
import { KafkaProducer, type PartitionBatch } from './producer.kafka.ts';
import { writeBatchHeader, writeRecords } from './record-batch.ts';
import { rowBytes } from './streams.ts';
import { ensureTopic, translate } from './topic.kafka.ts';
import type { KafkaLogWriterOptions } from './writer.kafka.ts';

/** What one request holds at most. Half of it costs the broker a third more a row; twice as much is no faster. */
const requestBytesMax = 512 * 1024;
const requestMessagesMax = 500;
/** Memory kept for the next request; a larger one was needed for a large row. */
const keptBytesMax = 1024 * 1024;

export interface Item {
  readonly change: Change;
  readonly commit: Commit;
  readonly partition: number;
  readonly waiting: { held(): void };
}

export interface LaneOptions extends KafkaLogWriterOptions {
  readonly partitions: number;
  readonly signal: AbortSignal;
  fail(error: PgquorumError): void;
}

/** The messages of one partition in one request. */
interface Part {
  readonly items: readonly Item[];
  readonly batch: PartitionBatch;
}

export class Lane {
  readonly #options: LaneOptions;
  readonly #backoff: Backoff;
  readonly #producer: KafkaProducer;
  #bytes = new BackwardBytes(requestBytesMax * 1.25);
  #queue: Item[] = [];
  /** How many of the queue have been taken. */
  #head = 0;
  #sending = false;

  constructor(options: LaneOptions) {
    this.#options = options;
    this.#backoff = new Backoff({ topic: options.topic, doing: 'appending' }, options.observer ?? {});
    this.#producer = new KafkaProducer(options.kafka, options.topic);
  }

  add(item: Item): void {
    this.#queue.push(item);
    if (this.#sending) return;
    this.#sending = true;
    // After the caller has added the rest of his changes.
    queueMicrotask(
      () =>
        void this.#drain().catch((error: unknown) =>
          this.#options.fail(translate(error, this.#options.topic)),
        ),
    );
  }

  close(): void {
    this.#queue = [];
    this.#head = 0;
    this.#producer.disconnect();
  }

  async #drain(): Promise<void> {
    const { signal } = this.#options;
    while (this.#head < this.#queue.length && !signal.aborted) {
      const items = this.#take();
      await this.#append(items);
      if (signal.aborted) return;
      for (const { waiting } of items) waiting.held();
    }
    this.#sending = false;
  }

  #take(): Item[] {
    let end = this.#head;
    let bytes = 0;
    while (end < this.#queue.length && end - this.#head < requestMessagesMax) {
      bytes += rowBytes(this.#queue[end]!.change);
      if (bytes > requestBytesMax && end > this.#head) break;
      end += 1;
    }
    const taken = this.#queue.slice(this.#head, end);
    this.#head = end;
    // Lets go of what was taken, not for every request but before it is more than what is left.
    if (this.#head * 2 >= this.#queue.length) {
      this.#queue = this.#queue.slice(this.#head);
      this.#head = 0;
    }
    return taken;
  }

  async #append(items: readonly Item[]): Promise<void> {
    if (this.#bytes.capacity > keptBytesMax) this.#bytes = new BackwardBytes(requestBytesMax * 1.25);
    const parts = await this.#encode(items);
    for (const part of await this.#deliver(parts)) await this.#appendHalves(part);
  }

  /** Into memory that the next call uses again. */
  async #encode(items: readonly Item[]): Promise<Part[]> {
    const { codec, originName, compression = 'none' } = this.#options;
    const groups = [...Map.groupBy(items, ({ partition }) => partition)];
    const bytes = this.#bytes;
    bytes.rewind();
    const timeMs = Date.now();
    const finished: (() => Part)[] = [];
    for (const [partition, group] of groups) {
      const count = group.length;
      const before = bytes.length;
      const content = (index: number) => codec.record(group[index]!.change, group[index]!.commit, originName);
      writeRecords(bytes, count, content);
      if (compression !== 'none') {
        const compressed = await compress(compression, bytes.view(before));
        bytes.rewind(before);
        bytes.bytes(compressed);
      }
      writeBatchHeader(bytes, { count, recordBytes: bytes.length - before, timeMs, codec: compression });
      writePartitionHeader(bytes, partition, bytes.length - before);
      const after = bytes.length;
      finished.push(() => ({
        items: group,
        batch: { partition, count, bytes: bytes.view(before, after), state: 'waiting' },
      }));
    }
    // Not before all is written: the memory may have been replaced by more of it.
    return finished.map((finish) => finish());
  }

  /** Until they are durable, however long that takes, except for those that it returns, which are too large; throws what another attempt cannot mend. */
  async #deliver(parts: readonly Part[]): Promise<Part[]> {
    const { signal } = this.#options;
    const tooLarge: Part[] = [];
    let left = parts;
    while (left.length > 0 && !signal.aborted) {
      const failure: unknown = await this.#producer.send(left.map(({ batch }) => batch)).then(
        () => null,
        (error: unknown) => error,
      );
      if (failure === null) this.#backoff.succeeded();
      tooLarge.push(...left.filter(({ batch }) => isTooLarge(batch.state)));
      left = left.filter(({ batch }) => batch.state !== 'durable' && !isTooLarge(batch.state));
      if (left.length === 0 || signal.aborted) break;
      if (failure instanceof PgquorumError) throw failure;
      await this.#prepareRetry(rootCause(failure), left);
    }
    return tooLarge;
  }

  async #appendHalves({ items, batch }: Part): Promise<void> {
    if (this.#options.signal.aborted) return;
    if (items.length === 1)
      throw new PgquorumError(
        'not_supported',
        `a change of ${rowBytes(items[0]!.change)} bytes is larger than the topic ${this.#options.topic} takes (max.message.bytes)`,
        { cause: batch.state },
      );
    const half = Math.ceil(items.length / 2);
    await this.#append(items.slice(0, half));
    if (!this.#options.signal.aborted) await this.#append(items.slice(half));
  }

  async #prepareRetry(cause: Error & { type?: string }, left: readonly Part[]): Promise<void> {
    const { kafka, topic, settings, partitions, signal } = this.#options;
    this.#producer.disconnect();
    await this.#backoff.wait(cause, signal);
    if (signal.aborted) return;
    if (left.some(({ batch }) => isSequence(batch.state))) this.#producer.forget();
    if (cause.type !== 'UNKNOWN_TOPIC_OR_PARTITION') return;
    // Somebody deleted the topic. Readers notice that it is another one.
    const found = await ensureTopic(kafka, topic, settings).catch(() => partitions); // the next attempt tells
    if (found !== partitions)
      throw new PgquorumError(
        'not_ready',
        `the topic ${topic} was made anew with ${found} partitions instead of ${partitions}`,
      );
    this.#producer.forget();
  }
}

const typeOf = (state: PartitionBatch['state']): string | undefined =>
  state instanceof Error ? state.type : undefined;

const isTooLarge = (state: PartitionBatch['state']): boolean =>
  ['MESSAGE_TOO_LARGE', 'RECORD_LIST_TOO_LARGE'].includes(typeOf(state) ?? '');

/** The broker and the producer disagree on what came last: only a new name can go on. */
const isSequence = (state: PartitionBatch['state']): boolean =>
  [
    'OUT_OF_ORDER_SEQUENCE_NUMBER',
    'DUPLICATE_SEQUENCE_NUMBER',
    'UNKNOWN_PRODUCER_ID',
    'INVALID_PRODUCER_EPOCH',
    'INVALID_PRODUCER_ID_MAPPING',
  ].includes(typeOf(state) ?? '');
