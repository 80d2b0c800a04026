/** One loop, if nodes are listed that were removed: tells one that comes back that it is no master any more. */
import {
  Inject,
  Injectable,
  type BeforeApplicationShutdown,
  type OnApplicationBootstrap,
} from '@nestjs/common';
import { watchReturned } from '#core/membership/returned.pg.ts';
import { Loop } from './loop.ts';
import { REPLICATION, type Replication } from './tokens.ts';

@Injectable()
export class ReturnedRunner implements OnApplicationBootstrap, BeforeApplicationShutdown {
  readonly #replication: Replication;
  #loop: Loop | null = null;

  constructor(@Inject(REPLICATION) replication: Replication) {
    this.#replication = replication;
  }

  onApplicationBootstrap(): void {
    const { removed, logger, settings } = this.#replication;
    if (removed.length === 0) return;
    this.#loop = new Loop(this.#replication, 'removed nodes', (signal, onHealthy) =>
      watchReturned(removed, { logger, cluster: settings.cluster, onHealthy }, signal),
    );
  }

  async beforeApplicationShutdown(): Promise<void> {
    await this.#loop?.stop();
  }
}
