/** One loop a served node: finds out whether it is the database that the others remember, and has it take another number when it is not. */
import {
  Inject,
  Injectable,
  type BeforeApplicationShutdown,
  type OnApplicationBootstrap,
} from '@nestjs/common';
import { watchIdentity } from '#core/topology/identity.pg.ts';
import { loopEach, type Loop } from './loop.ts';
import { REPLICATION, type Replication } from './tokens.ts';

@Injectable()
export class IdentityRunner implements OnApplicationBootstrap, BeforeApplicationShutdown {
  readonly #replication: Replication;
  #loops: Loop[] = [];

  constructor(@Inject(REPLICATION) replication: Replication) {
    this.#replication = replication;
  }

  onApplicationBootstrap(): void {
    const { nodes, settings, logger, moved } = this.#replication;
    this.#loops = loopEach(this.#replication, 'identity', (node, signal, healthy) =>
      watchIdentity(
        {
          node,
          peers: nodes.filter((peer) => peer.name !== node.name),
          intervalMs: settings.heartbeatIntervalMs,
          aliveMs: settings.failureTimeoutMs,
          logger: logger.child({ node: node.name }),
          onConfirmed: healthy,
          onRenumbered: moved,
        },
        signal,
      ),
    );
  }

  async beforeApplicationShutdown(): Promise<void> {
    await Promise.all(this.#loops.map((loop) => loop.stop()));
  }
}
