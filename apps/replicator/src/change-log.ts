/** Opens the change log that the settings name: the composition of core's adapters, nothing more. */
import type pg from 'pg';
import type { Pace } from '#core/bandwidth/pace.ts';
import { setGeneration, type EdgeStart } from '#core/apply/progress.pg.ts';
import { changeFormats } from '#core/config/replication-settings.ts';
import { kafkaAddress } from '#core/changelog/address.files.ts';
import { CloudEventEncoder } from '#core/changelog/cloud-event.ts';
import { DebeziumEncoder, type DebeziumOptions } from '#core/changelog/debezium.ts';
import { KafkaLogReader } from '#core/changelog/reader.kafka.ts';
import { changeCodec } from '#core/changelog/schema.files.ts';
import { KafkaLogWriter } from '#core/changelog/writer.kafka.ts';
import { WalChangeLog } from '#core/changelog/wal.pg.ts';
import type { ChangeLogReader, ChangeLogWriter } from '#core/changelog/port.ts';
import { PgquorumError } from '#core/errors/error.ts';
import { deleteTopics, topicEnd, topicEndIfAny } from '#core/changelog/topic.kafka.ts';
import { hasAppliedTopic } from '#core/membership/hand-over.pg.ts';
import { noteSlot, noteTopic } from '#core/resync/note.pg.ts';
import type { NotedPosition, SourceState } from '#core/resync/store.pg.ts';
import type { ClusterNode } from '#core/topology/found.pg.ts';
import { formatTopicName, topicName } from '#core/topology/names.ts';
import type { NodeNumber } from '#core/versioning/version.ts';
import type { Replication } from './tokens.ts';

export function openWal(
  { settings, logger }: Replication,
  origin: ClusterNode,
  start: EdgeStart,
  pace?: Pace,
): WalChangeLog {
  if (start.source.slot === null)
    throw new PgquorumError('invariant_broken', `the source of origin ${origin.name} names no slot`);
  return new WalChangeLog({
    node: origin.address,
    origin: origin.number,
    slot: start.source.slot,
    sole: true, // edges and feeds hold a lease
    confirmed: true,
    publication: start.source.publication,
    transactionBytesMax: settings.transactionBytesMax,
    pace,
    onRowless: (collection, keys) =>
      logger.warn(
        { collection, keys: keys.length },
        'rows are gone whose versions are alive: something deleted them with triggers disabled',
      ),
  });
}

const kafkaOf = ({ settings }: Replication) => kafkaAddress(settings);

function observerOf({ logger }: Replication, doing: string) {
  return {
    // A new topic has no leaders for a moment: what passes within a second is no warning.
    failed: ({ topic, error, retryInMs }: { topic: string; error: Error; retryInMs: number }) =>
      logger[retryInMs < 1000 ? 'info' : 'warn'](
        { topic, reason: error.message, retryInMs },
        `Kafka can not be reached while ${doing}`,
      ),
    recovered: ({ topic }: { topic: string }) => logger.info({ topic }, `Kafka is back for ${doing}`),
  };
}

export async function openReader(
  replication: Replication,
  from: { origin: ClusterNode; target: ClusterNode; start: EdgeStart; control: pg.Client },
): Promise<ChangeLogReader> {
  const { origin, target, start, control } = from;
  const pace = replication.paces.of(origin.number, target.number);
  if (replication.log === 'wal') return openWal(replication, origin, start, pace);
  const reader = new KafkaLogReader({
    kafka: kafkaOf(replication),
    topic: topicName(replication.settings.cluster, origin.name),
    origin: origin.number,
    codec: changeCodec(),
    generation: start.source.generation === '' ? null : start.source.generation,
    observer: observerOf(replication, 'reading'),
    pace,
  });
  return keepingGeneration(reader, (generation) =>
    setGeneration(control, { origin: origin.number, log: 'kafka', generation }),
  );
}

/** Keeps the topic's identity beside the positions before the first of its batches is applied. */
function keepingGeneration(
  reader: KafkaLogReader,
  keep: (generation: string) => Promise<void>,
): ChangeLogReader {
  return {
    origin: reader.origin,
    confirm: (stream, position) => reader.confirm(stream, position),
    positions: () => reader.positions(),
    close: () => reader.close(),
    async *read(options) {
      let kept: string | null = null;
      for await (const batch of reader.read(options)) {
        if (reader.generation !== null && reader.generation !== kept) await keep((kept = reader.generation));
        yield batch;
      }
    },
  };
}

/** A position of the origin's log to go on from when the one before is lost. */
export function notePosition(
  replication: Replication,
  edge: { origin: ClusterNode; target: ClusterNode; source: SourceState },
  signal: AbortSignal,
): Promise<NotedPosition> {
  const { origin, target, source } = edge;
  const { cluster } = replication.settings;
  if (replication.log === 'wal') return noteSlot({ cluster, origin, target }, source, signal);
  return noteTopic(origin, () => topicEnd(kafkaOf(replication), topicName(cluster, origin.name)), signal);
}

/** Of the origin's own topic, for publishing it again. */
export function openTopic(
  replication: Replication,
  origin: ClusterNode,
  generation: string | null,
): KafkaLogReader {
  return new KafkaLogReader({
    kafka: kafkaOf(replication),
    topic: topicName(replication.settings.cluster, origin.name),
    origin: origin.number,
    codec: changeCodec(),
    generation,
    observer: observerOf(replication, 'publishing'),
  });
}

type JsonFormat = Exclude<Replication['settings']['changeFormat'], 'protobuf'>;

export function openFormatWriter(
  replication: Replication,
  origin: ClusterNode,
  { format, tableOf }: { format: JsonFormat; tableOf: DebeziumOptions['tableOf'] },
): Promise<ChangeLogWriter> {
  const { settings, nodes } = replication;
  const { cluster } = settings;
  const names = new Map(nodes.flatMap(({ number, spare, name }) => [[number, name], [spare, name]] as const)); // prettier-ignore
  const nameOf = (number: number): string => names.get(number as NodeNumber) ?? String(number);
  return KafkaLogWriter.open({
    kafka: kafkaOf(replication),
    topic: formatTopicName(cluster, origin.name, format),
    origin: origin.number,
    originName: origin.name,
    settings: { partitions: settings.kafkaPartitions, replication: settings.kafkaReplication },
    codec:
      format === 'cloudevents'
        ? new CloudEventEncoder({ cluster, nameOf })
        : new DebeziumEncoder({
            name: topicName(cluster, origin.name),
            cluster,
            withSchema: format === 'debezium-schema',
            tableOf,
          }),
    compression: settings.compression,
    observer: observerOf(replication, 'publishing'),
  });
}

/** Resolves when these nodes have applied everything that the topic of a node holds. */
export async function readTopicToEnd(
  { settings }: Pick<Replication, 'settings'>,
  node: ClusterNode,
  others: readonly ClusterNode[],
  signal: AbortSignal,
): Promise<void> {
  const positions = await topicEndIfAny(kafkaAddress(settings), topicName(settings.cluster, node.name));
  if (positions !== null) await hasAppliedTopic(node, others, { positions, signal });
}

/** The same for a node that goes on under another number, whose topic one of the others may not have read yet, however long that takes. */
export async function readOwnTopicToEnd(
  { settings, logger }: Replication,
  node: ClusterNode,
  other: ClusterNode,
  signal: AbortSignal,
): Promise<void> {
  const positions = await topicEndIfAny(kafkaAddress(settings), topicName(settings.cluster, node.name));
  if (positions === null) return;
  const onBehind = (name: string) =>
    logger.info({ node: name }, `copying waits until the topic of ${node.name} is applied there to its end`);
  await hasAppliedTopic(node, [other], { positions, signal, withinMs: Infinity, onBehind });
}

/** The topics of a node, in all formats. */
export const deleteTopicsOf = (
  { settings }: Pick<Replication, 'settings'>,
  node: string,
): Promise<string[]> =>
  deleteTopics(kafkaAddress(settings), [
    topicName(settings.cluster, node),
    ...changeFormats
      .filter((format) => format !== 'protobuf')
      .map((format) => formatTopicName(settings.cluster, node, format)),
  ]);

export function openWriter(replication: Replication, origin: ClusterNode): Promise<ChangeLogWriter> {
  const { settings } = replication;
  return KafkaLogWriter.open({
    kafka: kafkaOf(replication),
    topic: topicName(settings.cluster, origin.name),
    origin: origin.number,
    originName: origin.name,
    settings: { partitions: settings.kafkaPartitions, replication: settings.kafkaReplication },
    codec: changeCodec(),
    compression: settings.compression,
    observer: observerOf(replication, 'appending'),
  });
}
