/**
 * Reads an origin's topic: all partitions, without a consumer group, from offsets that the consumer keeps. Fetches ahead within a bound of
 * bytes; decodes when the consumer asks. Reconnects by itself for as long as it takes.
 *
 * No gap goes unnoticed: offsets that expired, a topic that was made anew, a partition that lost its end and one that was never read but has
 * expired at its beginning all throw `position_lost`. They are looked for whenever a connection is made, after every error, and every
 * half a minute. Messages that compaction has removed leave gaps between offsets, which throw it too.
 */
import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Broker, Cluster } from 'kafkajs';
import type { Pace } from '../bandwidth/pace.ts';
import { PgquorumError } from '../errors/error.ts';
import type { NodeNumber } from '../versioning/version.ts';
import type { LogBatch, Position } from './change.ts';
import {
  Backoff,
  KafkaConnection,
  rootCause,
  type KafkaAddress,
  type KafkaObserver,
} from './client.kafka.ts';
import type { ChangeCodec } from './codec.ts';
import { decompress } from './compression.process.ts';
import { fetchApi, fetchRequest, readFetchAnswer, type FetchedPartition } from './fetch.ts';
import { FetchQueue } from './fetch-queue.ts';
import { contentTypeHeader, logBatches } from './fetched.ts';
import { exchange, protocolError } from './internals.kafka.ts';
import type { ChangeLogReader, HeldPositions, Positions } from './port.ts';
import { readBatches, readRecords, type ReadRecord } from './record-batch.ts';
import { inspectTopic, TopicStatus } from './topic.kafka.ts';

export interface KafkaLogReaderOptions {
  readonly kafka: KafkaAddress;
  readonly topic: string;
  readonly origin: NodeNumber;
  readonly codec: ChangeCodec;
  /**
   * The generation of the topic that the positions to read from belong to, as `generation()` gave it when they were kept. Unset = not known: then
   * a topic that was made anew and has grown beyond the positions is not told from the old one.
   */
  readonly generation?: string | null | undefined;
  /** Bytes fetched ahead of the consumer; default 8 MiB. One message may exceed it. */
  readonly bytesAheadMax?: number | undefined;
  readonly observer?: KafkaObserver | undefined;
  /** How fast it may read; what is fetched counts, as it is compressed. */
  readonly pace?: Pace | undefined;
}

const bytesAheadMaxDefault = 8 * 1024 * 1024;
/** How long the broker holds a fetch while there is nothing new. An abort does not wait for it. */
const fetchWaitMs = 500;
const partitionBytesMax = 1024 * 1024;
const checkEveryMs = 30_000;
/** A limit that is raised meanwhile holds after so long. */
const paceCheckMs = 250;

interface Chunk {
  readonly partition: number;
  readonly messages: readonly ReadRecord[];
}

export class KafkaLogReader implements ChangeLogReader {
  readonly origin: NodeNumber;
  readonly #options: KafkaLogReaderOptions;
  readonly #status: TopicStatus;
  #generation: string | null;
  #current: { readonly stop: AbortController; readonly queue: FetchQueue<Chunk> } | null = null;

  constructor(options: KafkaLogReaderOptions) {
    this.#options = options;
    this.origin = options.origin;
    this.#generation = options.generation ?? null;
    this.#status = new TopicStatus(options.kafka, options.topic);
  }

  /** Of the topic that is read, to be kept beside the positions. Null until the first batch or `position_lost`, and with brokers older than Kafka 2.8. */
  get generation(): string | null {
    return this.#generation;
  }

  /** Bytes fetched and not yet taken by the consumer. */
  get bytesAhead(): number {
    return this.#current?.queue.bytes ?? 0;
  }

  async *read({
    from,
    signal,
  }: {
    from: Positions;
    signal: AbortSignal;
  }): AsyncGenerator<LogBatch, void, void> {
    if (this.#current !== null)
      throw new PgquorumError('invariant_broken', 'a change log reader reads once at a time');
    const stop = new AbortController();
    const queue = new FetchQueue<Chunk>((this.#options.bytesAheadMax ?? bytesAheadMaxDefault) / 2);
    this.#current = { stop, queue };
    stop.signal.addEventListener('abort', () => queue.end());
    const abort = (): void => stop.abort();
    signal.addEventListener('abort', abort);
    if (signal.aborted) abort();
    const fetching = this.#fetchAll(from, queue, stop.signal);
    try {
      yield* this.#consume(queue);
    } finally {
      signal.removeEventListener('abort', abort);
      abort();
      await fetching;
      this.#current = null;
    }
  }

  async *#consume(queue: FetchQueue<Chunk>): AsyncGenerator<LogBatch, void, void> {
    for (;;) {
      const chunk = await queue.take();
      if (chunk === null) return;
      yield* logBatches(chunk.value.messages, { stream: chunk.value.partition, codec: this.#options.codec });
      chunk.release();
    }
  }

  /** Never rejects: what cannot be mended goes to the consumer through the queue. */
  async #fetchAll(from: Positions, queue: FetchQueue<Chunk>, signal: AbortSignal): Promise<void> {
    const { topic, observer = {} } = this.#options;
    const next = new Map([...from].map(([partition, position]) => [partition, position + 1n]));
    const backoff = new Backoff({ topic, doing: 'reading' }, observer);
    const stopped = signal.aborted ? Promise.resolve() : once(signal, 'abort');
    while (!signal.aborted) {
      try {
        // kafkajs cannot be stopped between two attempts to connect, so it is not waited for.
        await Promise.race([this.#connected(next, queue, { signal, backoff }), stopped]);
      } catch (error) {
        if (error instanceof PgquorumError) return queue.fail(error);
        if (!signal.aborted) await backoff.wait(rootCause(error), signal);
      }
    }
  }

  /** Fetches over one connection, until it fails or the signal aborts. */
  async #connected(
    next: Map<number, bigint>,
    queue: FetchQueue<Chunk>,
    { signal, backoff }: { signal: AbortSignal; backoff: Backoff },
  ): Promise<void> {
    const connection = new KafkaConnection(this.#options.kafka);
    const destroy = (): void => connection.destroy();
    signal.addEventListener('abort', destroy);
    try {
      const cluster = connection.cluster();
      await cluster.connect();
      while (!signal.aborted) {
        await cluster.addTargetTopic(this.#options.topic);
        await cluster.refreshMetadata();
        await this.#check(cluster, next);
        backoff.succeeded();
        await this.#fetchFromLeaders(cluster, next, queue, signal);
      }
    } finally {
      signal.removeEventListener('abort', destroy);
      destroy();
    }
  }

  /** Compares what the topic holds with what is to be read next. */
  async #check(cluster: Cluster, next: Map<number, bigint>): Promise<void> {
    const { topic } = this.#options;
    const { generation, held } = await inspectTopic(cluster, topic);
    const before = this.#generation;
    if (before !== null && generation !== null && before !== generation)
      throw new PgquorumError('position_lost', `the topic ${topic} was made anew`);
    for (const partition of next.keys()) {
      if (!held.has(partition))
        throw new PgquorumError('position_lost', `the topic ${topic} has no partition ${partition} any more`);
    }
    for (const [partition, { first, end }] of held) {
      const start = next.get(partition) ?? 0n;
      if (start <= first)
        throw new PgquorumError(
          'position_lost',
          `offset ${start} of partition ${partition} of the topic ${topic} has expired: the first held is ${first + 1n}`,
        );
      if (start > end + 1n)
        throw new PgquorumError(
          'position_lost',
          `partition ${partition} of the topic ${topic} ends before offset ${start}: it lost its end or was made anew`,
        );
      next.set(partition, start);
    }
    this.#generation = generation ?? before;
  }

  /** Until it is time to check again. One loop for each broker that leads partitions; the first error ends all. */
  async #fetchFromLeaders(
    cluster: Cluster,
    next: Map<number, bigint>,
    queue: FetchQueue<Chunk>,
    signal: AbortSignal,
  ): Promise<void> {
    const leaders = Object.entries(cluster.findLeaderForPartitions(this.#options.topic, [...next.keys()]));
    const failed = new AbortController();
    const either = AbortSignal.any([signal, failed.signal]);
    const until = performance.now() + checkEveryMs;
    const bytes = Math.ceil((this.#options.bytesAheadMax ?? bytesAheadMaxDefault) / 2 / leaders.length);
    const loops = leaders.map(async ([nodeId, partitions]) => {
      try {
        const broker = await cluster.findBroker({ nodeId });
        for (let round = 0; !either.aborted && performance.now() < until; round += 1) {
          await queue.room();
          if (either.aborted) return;
          // Each in turn is the first: what does not fit is taken from the last ones.
          const turn = round % partitions.length;
          const order = [...partitions.slice(turn), ...partitions.slice(0, turn)];
          const ask = Math.ceil(Math.min(bytes, this.#options.pace?.askBytesMax ?? bytes));
          for (const found of await this.#fetch(broker, order, next, ask)) {
            this.#options.pace?.spend(found.batches.length);
            await accept(found, next, queue);
          }
          await this.#keepPace(either);
        }
      } catch (error) {
        failed.abort();
        throw error;
      }
    });
    const results = await Promise.allSettled(loops);
    const failure = results.find((result) => result.status === 'rejected');
    if (failure !== undefined && !signal.aborted) throw failure.reason;
  }

  async #keepPace(signal: AbortSignal): Promise<void> {
    for (;;) {
      const waitMs = this.#options.pace?.waitMs() ?? 0;
      if (waitMs <= 0 || signal.aborted) return;
      await sleep(Math.min(waitMs, paceCheckMs), undefined, { signal }).catch(() => undefined); // the loop's condition sees the abort
    }
  }

  async #fetch(
    broker: Broker,
    partitions: readonly number[],
    next: ReadonlyMap<number, bigint>,
    bytesMax: number,
  ): Promise<FetchedPartition[]> {
    const request = fetchRequest({
      topic: this.#options.topic,
      partitions: partitions.map((partition) => ({ partition, offset: next.get(partition)! })),
      waitMs: fetchWaitMs,
      bytesMax,
      partitionBytesMax: Math.min(partitionBytesMax, bytesMax),
    });
    const found = readFetchAnswer(await exchange(broker, { ...fetchApi, body: [request] }));
    const refused = found.find(({ errorCode }) => errorCode !== 0);
    if (refused !== undefined) throw protocolError(refused.errorCode);
    return found;
  }

  /** Offsets are kept by the consumer, in the transaction that applied what they stand for. */
  confirm(_stream: number, _position: Position): void {}

  async positions(): Promise<HeldPositions> {
    return this.#status.positions();
  }

  async close(): Promise<void> {
    this.#current?.stop.abort();
    this.#status.close();
  }
}

async function accept(
  { partition, batches }: FetchedPartition,
  next: Map<number, bigint>,
  queue: FetchQueue<Chunk>,
): Promise<void> {
  for (const batch of readBatches(batches)) {
    const from = next.get(partition)!;
    if (batch.lastOffset < from) continue;
    const records = await decompress(batch.codec, batch.records);
    // Kafka sends whole batches of messages: the first may begin before what was asked for.
    const fresh = batch.isControl
      ? []
      : readRecords({ ...batch, records }, contentTypeHeader).filter(({ offset }) => offset >= from);
    // Offsets have no gaps unless messages were removed from between others, which only compaction does.
    if (
      batch.firstOffset > from ||
      (!batch.isControl && BigInt(fresh.length) !== batch.lastOffset - from + 1n)
    )
      throw new PgquorumError(
        'position_lost',
        `messages after offset ${from - 1n} of partition ${partition} are gone, and later ones are there: the topic was compacted`,
      );
    next.set(partition, batch.lastOffset + 1n);
    if (fresh.length > 0)
      queue.put(
        { partition, messages: fresh },
        fresh.reduce((sum, { value }) => sum + (value?.length ?? 0), 0),
      );
  }
}
