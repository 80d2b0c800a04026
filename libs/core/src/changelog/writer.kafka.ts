/**
 * Appends an origin's changes to its topic: gives each change to the lane of its partition (lane.kafka.ts), and tells when all are durable.
 */
import { PgquorumError } from '../errors/error.ts';
import type { NodeNumber } from '../versioning/version.ts';
import type { LogBatch } from './change.ts';
import type { KafkaAddress, KafkaObserver } from './client.kafka.ts';
import type { ChangeEncoder } from './codec.ts';
import { Lane } from './lane.kafka.ts';
import type { ChangeLogWriter, HeldPositions } from './port.ts';
import type { Codec } from './record-batch.ts';
import { streamsOf } from './streams.ts';
import { ensureTopic, TopicStatus, type TopicSettings } from './topic.kafka.ts';

export interface KafkaLogWriterOptions {
  readonly kafka: KafkaAddress;
  readonly topic: string;
  readonly origin: NodeNumber;
  /** Name of the origin, for consumers. */
  readonly originName: string;
  readonly settings: TopicSettings;
  readonly codec: ChangeEncoder;
  readonly compression?: Codec | undefined;
  readonly observer?: KafkaObserver | undefined;
  /** Requests on the wire at a time; default 4. */
  readonly lanes?: number | undefined;
}

const lanesDefault = 4;

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

  /** One of its messages is durable. */
  held(): void {
    this.left -= 1;
    if (this.left === 0) this.resolve();
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
          this.#lanes[partition % this.#lanes.length]!.add({
            change,
            commit: batch,
            partition,
            waiting: append,
          });
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
