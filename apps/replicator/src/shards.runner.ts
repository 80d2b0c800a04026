/** One loop a served node: keeps its part of the shard map in order. */
import {
  Inject,
  Injectable,
  type BeforeApplicationShutdown,
  type OnApplicationBootstrap,
} from '@nestjs/common';
import { runTender } from '#core/shards/tend.pg.ts';
import { loopEach, type Loop } from './loop.ts';
import { REPLICATION, type Replication } from './tokens.ts';

@Injectable()
export class ShardsRunner implements OnApplicationBootstrap, BeforeApplicationShutdown {
  readonly #replication: Replication;
  #loops: Loop[] = [];

  constructor(@Inject(REPLICATION) replication: Replication) {
    this.#replication = replication;
  }

  onApplicationBootstrap(): void {
    const { nodes, settings, logger } = this.#replication;
    this.#loops = loopEach(this.#replication, 'shards', (node, signal, onHealthy) =>
      runTender(
        {
          cluster: settings.cluster,
          node,
          nodes,
          keysPerSecond: settings.resyncKeysPerS,
          logger: logger.child({ node: node.name }),
          onHealthy,
        },
        signal,
      ),
    );
  }

  async beforeApplicationShutdown(): Promise<void> {
    await Promise.all(this.#loops.map((loop) => loop.stop()));
  }
}
