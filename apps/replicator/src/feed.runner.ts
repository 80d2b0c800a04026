/** With Kafka: one loop a served node that feeds its topic from its WAL. */
import {
  Inject,
  Injectable,
  type BeforeApplicationShutdown,
  type OnApplicationBootstrap,
} from '@nestjs/common';
import { runMendedFeed } from '#core/resync/feed.pg.ts';
import { requireConfirmed } from '#core/topology/confirmed.pg.ts';
import { openWal, openWriter } from './change-log.ts';
import { Loop } from './loop.ts';
import { REPLICATION, type Replication } from './tokens.ts';

@Injectable()
export class FeedRunner implements OnApplicationBootstrap, BeforeApplicationShutdown {
  readonly #replication: Replication;
  #loops: Loop[] = [];

  constructor(@Inject(REPLICATION) replication: Replication) {
    this.#replication = replication;
  }

  onApplicationBootstrap(): void {
    const { log, served, settings, metrics } = this.#replication;
    if (log !== 'kafka') return;
    this.#loops = served.map(
      (origin) =>
        new Loop(this.#replication, `feed ${origin.name}`, async (signal, healthy) => {
          await requireConfirmed(origin, signal);
          await runMendedFeed(
            {
              cluster: settings.cluster,
              origin,
              openReader: (start) => openWal(this.#replication, origin, start),
              openWriter: () => openWriter(this.#replication, origin),
              batchSize: settings.batchSize,
              idleProgressMs: 1000,
              onHealthy: healthy,
              onFed: (changes) => metrics.fed.inc({ origin: origin.name }, changes),
            },
            signal,
          );
        }),
    );
  }

  async beforeApplicationShutdown(): Promise<void> {
    await Promise.all(this.#loops.map((loop) => loop.stop()));
  }
}
