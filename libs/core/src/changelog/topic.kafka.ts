/**
 * The topic of one origin: its settings, its identity and what it still holds. One message is one change; a position is an offset.
 *
 * Identity: Kafka gives a topic an id when it is created. Positions mean nothing in another topic of the same name, so whoever keeps
 * positions keeps the id (here: the generation) beside them.
 */
import { setTimeout as delay } from 'node:timers/promises';
import type { Admin, Cluster } from 'kafkajs';
import { PgquorumError } from '../errors/error.ts';
import { KafkaConnection, rootCause, type KafkaAddress } from './client.kafka.ts';
import { topicId } from './internals.kafka.ts';
import type { HeldPositions } from './port.ts';

export interface TopicSettings {
  readonly partitions: number;
  /** Unset = min(3, brokers). */
  readonly replication?: number | undefined;
  /** How long a change is held at least; default 7 days. A node that was away longer has to be resynchronised. -1 = for ever. */
  readonly retentionMs?: number | undefined;
}

const dayMs = 86_400_000;
const retentionMsDefault = 7 * dayMs;
/** A row of 16,000 dimensions has 64 kB; metadata and text may be far larger. */
export const messageBytesMax = 64 * 1024 * 1024;

const visibleWithinMs = 15_000;

const describeConfigTopic = 2; // ConfigResourceTypes.TOPIC

/** Makes the topic if it is missing. Answers its number of partitions, which need not be the one asked for. */
export async function ensureTopic(
  address: KafkaAddress,
  topic: string,
  settings: TopicSettings,
): Promise<number> {
  const connection = new KafkaConnection(address);
  const admin = connection.admin();
  try {
    await admin.connect();
    const found = await partitionsOf(admin, topic);
    if (found === null) await createTopic(admin, topic, settings);
    const partitions = found ?? (await partitionsOnceVisible(admin, topic));
    await refuseCompaction(admin, topic);
    return partitions;
  } catch (error) {
    throw translate(error, topic);
  } finally {
    connection.destroy();
  }
}

/** Null when there is no such topic. */
async function partitionsOf(admin: Admin, topic: string): Promise<number | null> {
  try {
    const { topics } = await admin.fetchTopicMetadata({ topics: [topic] });
    return topics[0]!.partitions.length;
  } catch (error) {
    if (rootCause(error).type === 'UNKNOWN_TOPIC_OR_PARTITION') return null;
    throw error;
  }
}

/** A topic that was just made is not known to every broker at once. */
async function partitionsOnceVisible(admin: Admin, topic: string): Promise<number> {
  const deadline = performance.now() + visibleWithinMs;
  for (;;) {
    const found = await partitionsOf(admin, topic);
    if (found !== null) return found;
    if (performance.now() > deadline)
      throw new PgquorumError(
        'not_ready',
        `Kafka, topic ${topic}: it was made, and is still not visible after ${visibleWithinMs} ms`,
      );
    await delay(50);
  }
}

/** Does nothing when another process was faster. */
async function createTopic(admin: Admin, topic: string, settings: TopicSettings): Promise<void> {
  const brokers = (await admin.describeCluster()).brokers.length;
  const replicationFactor = settings.replication ?? Math.min(3, brokers);
  const configEntries = configOf(settings, replicationFactor);
  await admin.createTopics({
    waitForLeaders: false,
    topics: [{ topic, numPartitions: settings.partitions, replicationFactor, configEntries }],
  });
}

function configOf(
  { retentionMs = retentionMsDefault }: TopicSettings,
  replicationFactor: number,
): { name: string; value: string }[] {
  const config = {
    'cleanup.policy': 'delete',
    'retention.ms': String(retentionMs),
    'retention.bytes': '-1',
    // Age counts from the arrival in Kafka. By the time of the commit, what a long outage delayed would expire before anyone read it.
    'message.timestamp.type': 'LogAppendTime',
    'max.message.bytes': String(messageBytesMax),
    // One replica may be down. An acknowledged change is on all replicas that are not.
    'min.insync.replicas': String(Math.max(1, replicationFactor - 1)),
    'unclean.leader.election.enable': 'false',
    'compression.type': 'producer',
  };
  return Object.entries(config).map(([name, value]) => ({ name, value }));
}

/** Compaction removes messages without any offset expiring, so a reader would miss them without noticing. */
async function refuseCompaction(admin: Admin, topic: string): Promise<void> {
  const { resources } = await admin.describeConfigs({
    includeSynonyms: false,
    resources: [{ type: describeConfigTopic, name: topic, configNames: ['cleanup.policy'] }],
  });
  const policy =
    resources[0]?.configEntries.find(({ configName }) => configName === 'cleanup.policy')?.configValue ?? '';
  if (policy.includes('compact')) {
    throw new PgquorumError(
      'preflight_failed',
      `the topic ${topic} is compacted: set it with kafka-configs --alter --entity-type topics --entity-name ${topic} --add-config cleanup.policy=delete`,
    );
  }
}

/** Asks about a topic over a connection of its own, which is opened when it is first needed and again after it failed. */
export class TopicStatus {
  readonly #address: KafkaAddress;
  readonly #topic: string;
  #open: { connection: KafkaConnection; admin: Admin } | null = null;

  constructor(address: KafkaAddress, topic: string) {
    this.#address = address;
    this.#topic = topic;
  }

  async positions(): Promise<HeldPositions> {
    const open = (this.#open ??= this.#connect());
    try {
      await open.admin.connect();
      return heldPositions(await open.admin.fetchTopicOffsets(this.#topic));
    } catch (error) {
      this.close();
      throw translate(error, this.#topic);
    }
  }

  #connect(): { connection: KafkaConnection; admin: Admin } {
    const connection = new KafkaConnection(this.#address);
    return { connection, admin: connection.admin() };
  }

  close(): void {
    this.#open?.connection.destroy();
    this.#open = null;
  }
}

const heldPositions = (offsets: readonly { partition: number; low: string; high: string }[]): HeldPositions =>
  new Map(
    offsets.map(({ partition, low, high }) => [
      partition,
      { first: BigInt(low) - 1n, end: BigInt(high) - 1n },
    ]),
  );

/** What a connected cluster says of a topic: its generation and, of every partition, what is held. */
export async function inspectTopic(
  cluster: Cluster,
  topic: string,
): Promise<{ generation: string | null; held: HeldPositions }> {
  const partitions = cluster
    .findTopicPartitionMetadata(topic)
    .map(({ partitionId }) => ({ partition: partitionId }));
  const broker = await cluster.findBroker({ nodeId: String(cluster.getNodeIds()[0]) });
  const generation = await topicId(broker, topic);
  const [low] = await cluster.fetchTopicsOffset([{ topic, partitions, fromBeginning: true }]);
  const [high] = await cluster.fetchTopicsOffset([{ topic, partitions, fromBeginning: false }]);
  const offsets = high!.partitions.map(({ partition, offset }) => ({
    partition,
    high: offset,
    low: low!.partitions.find((one) => one.partition === partition)!.offset,
  }));
  return { generation, held: heldPositions(offsets) };
}

/** The identity of a topic and its newest positions. Throws `not_ready` when it is not there. */
export async function topicEnd(
  address: KafkaAddress,
  topic: string,
): Promise<{ generation: string; positions: Map<number, bigint> }> {
  return withBrokers(address, topic, async (connection) => {
    const cluster = connection.cluster();
    await cluster.connect();
    await cluster.addTargetTopic(topic);
    await cluster.refreshMetadata();
    const { generation, held } = await inspectTopic(cluster, topic);
    if (held.size === 0)
      throw new PgquorumError('not_ready', `the brokers do not know the topic ${topic} yet`);
    return {
      generation: generation ?? '',
      positions: new Map([...held].map(([partition, { end }]) => [partition, end])),
    };
  });
}

/** Null when there is no such topic. */
export async function topicEndIfAny(
  address: KafkaAddress,
  topic: string,
): Promise<ReadonlyMap<number, bigint> | null> {
  const there = await withAdmin(address, topic, (admin) => partitionsOf(admin, topic));
  return there === null ? null : (await topicEnd(address, topic)).positions;
}

/** Those of them that are there. Answers their names. */
export async function deleteTopics(address: KafkaAddress, topics: readonly string[]): Promise<string[]> {
  return withAdmin(address, topics.join(', '), async (admin) => {
    const there = (await admin.listTopics()).filter((topic) => topics.includes(topic));
    if (there.length > 0) await admin.deleteTopics({ topics: there });
    return there;
  });
}

const withAdmin = <T>(address: KafkaAddress, topic: string, work: (admin: Admin) => Promise<T>): Promise<T> =>
  withBrokers(address, topic, async (connection) => {
    const admin = connection.admin();
    await admin.connect();
    return work(admin);
  });

async function withBrokers<T>(
  address: KafkaAddress,
  topic: string,
  work: (connection: KafkaConnection) => Promise<T>,
): Promise<T> {
  const connection = new KafkaConnection(address);
  try {
    return await work(connection);
  } catch (error) {
    throw translate(error, topic);
  } finally {
    connection.destroy();
  }
}

/** Driver errors become ours here. */
export function translate(error: unknown, topic: string): PgquorumError {
  if (error instanceof PgquorumError) return error;
  const cause = rootCause(error);
  return new PgquorumError('not_ready', `Kafka, topic ${topic}: ${cause.message}`, { cause });
}
