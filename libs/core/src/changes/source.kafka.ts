/** Changes of one origin from its topic in Kafka: read directly, without a consumer group. */
import { KafkaConnection, type KafkaAddress } from '../changelog/client.kafka.ts';
import type { ChangeCodec } from '../changelog/codec.ts';
import type { ChangeLogReader } from '../changelog/port.ts';
import { KafkaLogReader } from '../changelog/reader.kafka.ts';
import { inspectTopic, translate } from '../changelog/topic.kafka.ts';
import type { NodeNumber } from '../versioning/version.ts';
import type { HeldLog, OriginPlace } from './place.ts';
import type { ChangeSource } from './source.ts';

export interface KafkaSourceOptions {
  readonly kafka: KafkaAddress;
  readonly topic: string;
  readonly origin: { readonly name: string; readonly number: NodeNumber };
  readonly codec: ChangeCodec;
}

/** Messages of one partition. */
const nearMessages = 5000n;
const readingsMax = 8;

export class KafkaSource implements ChangeSource {
  readonly origin: string;
  readonly nearMax = nearMessages;
  readonly readingsMax = readingsMax;
  readonly #options: KafkaSourceOptions;

  constructor(options: KafkaSourceOptions) {
    this.#options = options;
    this.origin = options.origin.name;
  }

  async held(): Promise<HeldLog> {
    const { kafka, topic } = this.#options;
    const connection = new KafkaConnection(kafka);
    try {
      const cluster = connection.cluster();
      await cluster.connect();
      await cluster.addTargetTopic(topic);
      await cluster.refreshMetadata();
      const { generation, held } = await inspectTopic(cluster, topic);
      return {
        generation: generation ?? '',
        first: new Map([...held].map(([partition, { first }]) => [partition, first])),
        end: new Map([...held].map(([partition, { end }]) => [partition, end])),
      };
    } catch (cause) {
      throw translate(cause, topic);
    } finally {
      connection.destroy();
    }
  }

  open({ generation, positions: _from }: OriginPlace): Promise<ChangeLogReader> {
    const { kafka, topic, origin, codec } = this.#options;
    return Promise.resolve(
      new KafkaLogReader({
        kafka,
        topic,
        origin: origin.number,
        codec,
        generation: generation === '' ? null : generation,
      }),
    );
  }

  async close(): Promise<void> {}
}
