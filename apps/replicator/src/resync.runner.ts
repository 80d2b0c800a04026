/** One loop for every edge into a served node: copies what the edge has missed, whenever something was. */
import {
  Inject,
  Injectable,
  type BeforeApplicationShutdown,
  type OnApplicationBootstrap,
} from '@nestjs/common';
import { runCopier } from '#core/resync/copier.pg.ts';
import { requireConfirmed } from '#core/topology/confirmed.pg.ts';
import { readOwnTopicToEnd } from './change-log.ts';
import { Loop } from './loop.ts';
import { REPLICATION, type Replication } from './tokens.ts';

@Injectable()
export class ResyncRunner implements OnApplicationBootstrap, BeforeApplicationShutdown {
  readonly #replication: Replication;
  #loops: Loop[] = [];

  constructor(@Inject(REPLICATION) replication: Replication) {
    this.#replication = replication;
  }

  onApplicationBootstrap(): void {
    const { nodes, served, settings, log, logger, metrics } = this.#replication;
    this.#loops = served.flatMap((target) =>
      nodes
        .filter((origin) => origin.number !== target.number)
        .map(
          (origin) =>
            new Loop(this.#replication, `resync ${origin.name} ${target.name}`, async (signal, healthy) => {
              await requireConfirmed(target, signal);
              await runCopier(
                {
                  cluster: settings.cluster,
                  origin,
                  target,
                  log,
                  keysPerSecond: settings.resyncKeysPerS,
                  logger: logger.child({ resync: `${origin.name} ${target.name}` }),
                  ...(log === 'kafka'
                    ? {
                        ownTopicApplied: (aborting: AbortSignal) =>
                          readOwnTopicToEnd(this.#replication, target, origin, aborting),
                      }
                    : {}),
                  onHealthy: healthy,
                  onResync: (resyncing) =>
                    metrics.resyncing.set({ origin: origin.name, target: target.name }, resyncing ? 1 : 0),
                },
                signal,
              );
            }),
        ),
    );
  }

  async beforeApplicationShutdown(): Promise<void> {
    await Promise.all(this.#loops.map((loop) => loop.stop()));
  }
}
