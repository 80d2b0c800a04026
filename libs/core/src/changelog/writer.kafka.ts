/**
 * Appends an origin's changes to its topic.
 *
 * Order: a partition belongs to one lane, and a lane has one request on the wire: the next one leaves when the one before is durable. So
 * a retry never overtakes. (kafkajs's idempotent producer gives a waiting request the sequence number of a failed one, which Kafka then
 * drops as a repetition: with several requests on the wire that is a loss.) Throughput comes from several lanes, each with its own
 * producer, and from filling a request with all that has queued up meanwhile.
 */
import { CompressionTypes, type Message, type Producer } from 'kafkajs';
import { PgquorumError } from '../errors/error.ts';
import type { NodeNumber } from '../versioning/version.ts';
import type { Change, LogBatch } from './change.ts';
import {
  Backoff,
  KafkaConnection,
  rootCause,
  type KafkaAddress,
  type KafkaObserver,
} from './client.kafka.ts';
import type { ChangeCodec } from './codec.ts';
import type { ChangeLogWriter, HeldPositions } from './port.ts';
import { rowBytes, streamsOf } from './streams.ts';
import { ensureTopic, TopicStatus, translate, type TopicSettings } from './topic.kafka.ts';

export interface KafkaLogWriterOptions {
  readonly kafka: KafkaAddress;
  readonly topic: string;
  readonly origin: NodeNumber;
  /** Name of the origin, for consumers. */
  readonly originName: string;
  readonly settings: TopicSettings;
  readonly codec: ChangeCodec;
  readonly compression?: 'none' | 'gzip' | undefined;
  readonly observer?: KafkaObserver | undefined;
  /** Requests on the wire at a time; default 4. */
  readonly lanes?: number | undefined;
}

const lanesDefault = 4;
/** What one request holds at most. kafkajs copies a request several times over: larger ones cost more per message, smaller ones more round trips. */
const requestBytesMax = 256 * 1024;
const requestMessagesMax = 500;
/** The idempotent producer wants at least one. */
const producerRetry = { retries: 1, initialRetryTime: 50 };

interface Item {
  readonly change: Change;
  readonly batch: LogBatch;
  readonly partition: number;
  readonly append: Append;
}

/** One call of `append` that waits for its messages. */
class Append {
  readonly done: Promise<void>;
  left = 0;
  resolve!: () => void;
  reject!: (error: Error) => void;

  constructor() {
    this.done = new Promise((resolve, reject) => {
      this.resolve = resolve;
      this.reject = reject;
    });
  }
}

/**
 * One for each topic at a time. A writer that has rejected an append is finished, since what was appended after it must not be in the log before it:
 * close it, and append again through a new one.
 */
export class KafkaLogWriter implements ChangeLogWriter {
  readonly #status: TopicStatus;
  readonly #ended = new AbortController();
  readonly #outstanding = new Set<Append>();
  readonly #lanes: readonly Lane[];
  readonly #partitions: number;
  #failure: PgquorumError | null = null;

  /** Makes the topic if it is missing. */
  static async open(options: KafkaLogWriterOptions): Promise<KafkaLogWriter> {
    return new KafkaLogWriter(options, await ensureTopic(options.kafka, options.topic, options.settings));
  }

  private constructor(options: KafkaLogWriterOptions, partitions: number) {
    this.#partitions = partitions;
    this.#status = new TopicStatus(options.kafka, options.topic);
    const count = Math.min(options.lanes ?? lanesDefault, partitions);
    this.#lanes = Array.from(
      { length: count },
      () =>
        new Lane({ ...options, partitions, signal: this.#ended.signal, fail: (error) => this.#fail(error) }),
    );
  }

  /** Memory held is what the caller has appended and not yet seen resolved: the bound is his. Calls may overlap; their order counts. */
  append(batches: readonly LogBatch[]): Promise<void> {
    if (this.#failure !== null) return Promise.reject(this.#failure);
    const append = new Append();
    this.#outstanding.add(append);
    for (const batch of batches) {
      for (const change of batch.changes) {
        for (const partition of streamsOf(change, this.#partitions)) {
          append.left += 1;
          this.#lanes[partition % this.#lanes.length]!.add({ change, batch, partition, append });
        }
      }
    }
    // An append without changes is durable when those before it are.
    if (append.left === 0)
      void Promise.all(
        [...this.#outstanding].filter((other) => other !== append).map(({ done }) => done),
      ).then(append.resolve, append.reject);
    return append.done.finally(() => this.#outstanding.delete(append));
  }

  async positions(): Promise<HeldPositions> {
    return this.#status.positions();
  }

  /** What is still under way is rejected. */
  async close(): Promise<void> {
    this.#fail(new PgquorumError('shutting_down', 'the change log writer was closed'));
    this.#status.close();
  }

  #fail(error: PgquorumError): void {
    this.#failure ??= error;
    this.#ended.abort();
    for (const append of this.#outstanding) append.reject(this.#failure);
    for (const lane of this.#lanes) lane.close();
  }
}

interface LaneOptions extends KafkaLogWriterOptions {
  readonly partitions: number;
  readonly signal: AbortSignal;
  fail(error: PgquorumError): void;
}

/** Sends the messages of some partitions, one request after the other. */
class Lane {
  readonly #options: LaneOptions;
  readonly #backoff: Backoff;
  #open: { readonly connection: KafkaConnection; readonly producer: Producer } | null = null;
  #queue: Item[] = [];
  /** How many of the queue have been taken. */
  #head = 0;
  #sending = false;

  constructor(options: LaneOptions) {
    this.#options = options;
    this.#backoff = new Backoff({ topic: options.topic, doing: 'appending' }, options.observer ?? {});
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
    this.#dropProducer();
  }

  /** The next one has a new identity, and sequence numbers from the start. */
  #dropProducer(): void {
    this.#open?.connection.destroy();
    this.#open = null;
  }

  async #drain(): Promise<void> {
    const { signal } = this.#options;
    while (this.#head < this.#queue.length && !signal.aborted) {
      const items = this.#take();
      await this.#deliver(items.map((item) => this.#message(item)));
      if (signal.aborted) return;
      for (const { append } of items) {
        append.left -= 1;
        if (append.left === 0) append.resolve();
      }
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

  #message({ change, batch, partition }: Item): Message {
    const { key, value, headers } = this.#options.codec.encode(change, batch, this.#options.originName);
    return { key, value, headers, partition };
  }

  /** Until they are durable, however long that takes; throws what another attempt cannot mend. */
  async #deliver(messages: Message[]): Promise<void> {
    while (!this.#options.signal.aborted) {
      try {
        await this.#send(messages);
        this.#backoff.succeeded();
        return;
      } catch (error) {
        const cause = rootCause(error);
        if (this.#options.signal.aborted) return;
        if (isTooLarge(cause)) return this.#deliverHalves(messages, cause);
        if (error instanceof PgquorumError) throw error;
        await this.#prepareRetry(cause);
      }
    }
  }

  async #send(messages: Message[]): Promise<void> {
    const { topic, compression } = this.#options;
    const { producer } = (this.#open ??= this.#openProducer());
    await producer.connect();
    const acknowledged = await producer.send({
      topic,
      messages,
      acks: -1,
      compression: compression === 'gzip' ? CompressionTypes.GZIP : CompressionTypes.None,
    });
    // kafkajs leaves out, without an error, what belongs to a partition that the topic does not have.
    const partitions = new Set(acknowledged.map(({ partition }) => partition));
    const missing = messages.find(({ partition }) => !partitions.has(partition!));
    if (missing !== undefined)
      throw new PgquorumError(
        'not_ready',
        `the topic ${topic} has no partition ${missing.partition}: it was made anew`,
      );
  }

  #openProducer(): { connection: KafkaConnection; producer: Producer } {
    const connection = new KafkaConnection(this.#options.kafka);
    return {
      connection,
      producer: connection.producer({ idempotent: true, maxInFlightRequests: 1, retry: producerRetry }),
    };
  }

  async #deliverHalves(messages: Message[], cause: Error): Promise<void> {
    const only = messages.length === 1 ? messages[0]! : null;
    if (only !== null) {
      const bytes = (only.value as Buffer).length;
      throw new PgquorumError(
        'not_supported',
        `a change of ${bytes} bytes is larger than the topic ${this.#options.topic} takes (max.message.bytes)`,
        { cause },
      );
    }
    // Sequence numbers were given out for the larger batch.
    this.#dropProducer();
    const half = Math.ceil(messages.length / 2);
    await this.#deliver(messages.slice(0, half));
    await this.#deliver(messages.slice(half));
  }

  async #prepareRetry(cause: Error & { type?: string }): Promise<void> {
    const { kafka, topic, settings, partitions, signal } = this.#options;
    await this.#backoff.wait(cause, signal);
    if (signal.aborted) return;
    if (isSequence(cause)) this.#dropProducer();
    if (cause.type !== 'UNKNOWN_TOPIC_OR_PARTITION') return;
    // Somebody deleted the topic. Readers notice that it is another one.
    const found = await ensureTopic(kafka, topic, settings).catch(() => partitions); // the next attempt tells
    if (found !== partitions)
      throw new PgquorumError(
        'not_ready',
        `the topic ${topic} was made anew with ${found} partitions instead of ${partitions}`,
      );
    this.#dropProducer();
  }
}

const isTooLarge = ({ type }: { type?: string }): boolean =>
  type === 'MESSAGE_TOO_LARGE' || type === 'RECORD_LIST_TOO_LARGE';

/** The broker and the producer disagree on what came last: only a new producer can go on. */
const isSequence = ({ type }: { type?: string }): boolean =>
  type === 'OUT_OF_ORDER_SEQUENCE_NUMBER' ||
  type === 'DUPLICATE_SEQUENCE_NUMBER' ||
  type === 'UNKNOWN_PRODUCER_ID' ||
  type === 'INVALID_PRODUCER_EPOCH' ||
  type === 'INVALID_PRODUCER_ID_MAPPING';
