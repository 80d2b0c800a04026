/** With Kafka and a format for others: one loop a served node that publishes its topic again in that format. */
import {
  Inject,
  Injectable,
  type BeforeApplicationShutdown,
  type OnApplicationBootstrap,
} from '@nestjs/common';
import { runRepublish } from '#core/changelog/republish.pg.ts';
import { openFormatWriter, openTopic } from './change-log.ts';
import { loopEach, type Loop } from './loop.ts';
import { REPLICATION, type Replication } from './tokens.ts';

const writes = new Set(['write']);
const writesAndConflicts = new Set(['write', 'conflict']);

@Injectable()
export class PublishRunner implements OnApplicationBootstrap, BeforeApplicationShutdown {
  readonly #replication: Replication;
  #loops: Loop[] = [];

  constructor(@Inject(REPLICATION) replication: Replication) {
    this.#replication = replication;
  }

  onApplicationBootstrap(): void {
    const { log, settings, metrics } = this.#replication;
    const format = settings.changeFormat;
    if (log !== 'kafka' || format === 'protobuf') return;
    this.#loops = loopEach(this.#replication, 'publish', (origin, signal, healthy) =>
      runRepublish(
        {
          origin,
          format,
          openReader: (generation) => openTopic(this.#replication, origin, generation),
          openWriter: (tableOf) => openFormatWriter(this.#replication, origin, { format, tableOf }),
          kinds: format === 'cloudevents' ? writesAndConflicts : writes,
          onHealthy: healthy,
          onPublished: (changes) => metrics.published.inc({ origin: origin.name, format }, changes),
        },
        signal,
      ),
    );
  }

  async beforeApplicationShutdown(): Promise<void> {
    await Promise.all(this.#loops.map((loop) => loop.stop()));
  }
}
