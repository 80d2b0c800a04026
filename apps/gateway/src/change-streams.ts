/** The streams of changes of the change log that the settings name: the composition of core's adapters, nothing more. */
import { kafkaAddress } from '#core/changelog/address.files.ts';
import { changeCodec } from '#core/changelog/schema.files.ts';
import { ChangeChannel } from '#core/changes/channel.process.ts';
import { KafkaSource } from '#core/changes/source.kafka.ts';
import { WalSource } from '#core/changes/source.pg.ts';
import { ChangeStreams } from '#core/changes/streams.process.ts';
import type { Settings } from '#core/config/settings.ts';
import { topicName } from '#core/topology/names.ts';
import type { Nodes } from '#core/topology/nodes.pg.ts';

export function openChangeStreams(settings: Settings, nodes: Nodes): ChangeStreams {
  const streams = new ChangeStreams(channelsOf(settings, nodes));
  nodes.onChange(() => streams.replace(channelsOf(settings, nodes)));
  return streams;
}

function channelsOf(settings: Settings, nodes: Nodes): ChangeChannel[] {
  const { cluster, kafkaBrokers, transactionBytesMax, changesKeptBytes } = settings;
  const sources = nodes.all.map((node) =>
    kafkaBrokers === undefined
      ? new WalSource({
          cluster,
          node,
          peers: nodes.all.filter((peer) => peer !== node).map((peer) => peer.number),
          transactionBytesMax,
          behindBytesMax: 2 * changesKeptBytes,
        })
      : new KafkaSource({
          kafka: kafkaAddress(settings),
          topic: topicName(cluster, node.name),
          origin: node,
          codec: changeCodec(),
        }),
  );
  return sources.map((source) => new ChangeChannel(source));
}
