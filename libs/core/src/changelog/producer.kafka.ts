/**
 * Sends batches to the leaders of their partitions, each of them once: a batch that is sent again carries the same name and number, so that Kafka
 * recognises it. Not for several callers at a time: a partition's next batch is sent when the one before is acknowledged.
 *
 * kafkajs has a producer, but encodes messages at 25 to 39 us each where this way costs a tenth.
 */
import type { Broker, Cluster } from 'kafkajs';
import { PgquorumError } from '../errors/error.ts';
import { KafkaConnection, type KafkaAddress } from './client.kafka.ts';
import { exchange, newProducerIdentity, protocolError, type ProducerIdentity } from './internals.kafka.ts';
import { partitionHeaderBytes, produceApi, produceHead, readProduceAnswer } from './produce.ts';
import { stampBatch } from './record-batch.ts';

/** How long a leader waits for its replicas. */
const acknowledgeWithinMs = 25_000;
/** Numbers of messages begin again at 0 after the greatest. */
const sequences = 2 ** 31;

/** Messages of one partition, encoded. */
export interface PartitionBatch {
  readonly partition: number;
  readonly count: number;
  /** The batch after its partition and length (`writePartitionHeader`). */
  readonly bytes: Buffer;
  state: 'waiting' | 'durable' | KafkaRefusal;
}

/** What a broker said to one batch. */
export type KafkaRefusal = Error & { readonly type?: string };

interface Identity extends ProducerIdentity {
  /** Partition -> number of its next message. */
  readonly next: Map<number, number>;
}

export class KafkaProducer {
  readonly #address: KafkaAddress;
  readonly #topic: string;
  #open: { readonly connection: KafkaConnection; readonly cluster: Cluster } | null = null;
  #identity: Identity | null = null;
  /** Under which identity and number a batch was sent before. */
  readonly #stamped = new WeakMap<
    PartitionBatch,
    { readonly identity: Identity; readonly sequence: number }
  >();

  constructor(address: KafkaAddress, topic: string) {
    this.#address = address;
    this.#topic = topic;
  }

  /** Resolves when all are durable. After a rejection those that are say so; the others may be there too. */
  async send(batches: readonly PartitionBatch[]): Promise<void> {
    const cluster = await this.#connected();
    const identity = (this.#identity ??= await this.#identify(cluster));
    for (const batch of batches) {
      batch.state = 'waiting';
      this.#stamp(batch, identity);
    }
    const results = await Promise.allSettled(
      this.#byLeader(cluster, batches).map(async ({ nodeId, batches: led }) =>
        this.#produce(await cluster.findBroker({ nodeId }), led),
      ),
    );
    const failure = results.find((result) => result.status === 'rejected');
    if (failure !== undefined) throw failure.reason;
  }

  /** What is on the wire is rejected; the next `send` connects anew and asks for the leaders. Kafka still recognises what was sent. */
  disconnect(): void {
    this.#open?.connection.destroy();
    this.#open = null;
  }

  /** The next `send` has a new name, and numbers from 0: Kafka no longer recognises what was sent. */
  forget(): void {
    this.disconnect();
    this.#identity = null;
  }

  async #connected(): Promise<Cluster> {
    if (this.#open !== null) return this.#open.cluster;
    const connection = new KafkaConnection(this.#address);
    const cluster = connection.cluster();
    this.#open = { connection, cluster };
    await cluster.connect();
    await cluster.addTargetTopic(this.#topic);
    return cluster;
  }

  async #identify(cluster: Cluster): Promise<Identity> {
    const broker = await cluster.findBroker({ nodeId: String(cluster.getNodeIds()[0]) });
    return { ...(await newProducerIdentity(broker)), next: new Map() };
  }

  #stamp(batch: PartitionBatch, identity: Identity): void {
    if (this.#stamped.get(batch)?.identity === identity) return;
    const { producerId, epoch, next } = identity;
    const sequence = next.get(batch.partition) ?? 0;
    this.#stamped.set(batch, { identity, sequence });
    stampBatch(batch.bytes.subarray(partitionHeaderBytes), { producerId, epoch, sequence });
  }

  #byLeader(
    cluster: Cluster,
    batches: readonly PartitionBatch[],
  ): { readonly nodeId: string; readonly batches: PartitionBatch[] }[] {
    if (cluster.findTopicPartitionMetadata(this.#topic).length === 0)
      throw new Error(`the brokers do not know the topic ${this.#topic} yet`);
    const byPartition = new Map(batches.map((batch) => [batch.partition, batch]));
    const leaders = Object.entries(cluster.findLeaderForPartitions(this.#topic, [...byPartition.keys()]));
    const led = new Set(leaders.flatMap(([, partitions]) => partitions));
    const homeless = batches.find(({ partition }) => !led.has(partition));
    if (homeless !== undefined)
      throw new PgquorumError(
        'not_ready',
        `the topic ${this.#topic} has no partition ${homeless.partition}: it was made anew`,
      );
    return leaders.map(([nodeId, partitions]) => ({
      nodeId,
      batches: partitions.map((partition) => byPartition.get(partition)!),
    }));
  }

  async #produce(broker: Broker, batches: readonly PartitionBatch[]): Promise<void> {
    const head = produceHead({
      topic: this.#topic,
      partitions: batches.length,
      timeoutMs: acknowledgeWithinMs,
    });
    const body = [head, ...batches.map(({ bytes }) => bytes)];
    const codes = readProduceAnswer(await exchange(broker, { ...produceApi, body }));
    for (const batch of batches) {
      const code = codes.get(batch.partition);
      if (code === undefined) batch.state = new Error(`no answer for partition ${batch.partition}`);
      else if (code !== 0) batch.state = protocolError(code);
      else this.#acknowledge(batch);
    }
    const refusal = batches.find(({ state }) => state instanceof Error)?.state;
    if (refusal !== undefined) throw refusal;
  }

  #acknowledge(batch: PartitionBatch): void {
    batch.state = 'durable';
    const { identity, sequence } = this.#stamped.get(batch)!;
    identity.next.set(batch.partition, (sequence + batch.count) % sequences);
  }
}
