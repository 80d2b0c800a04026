/** One loop: measures how far the clocks of all nodes are apart. */
import {
  Inject,
  Injectable,
  type BeforeApplicationShutdown,
  type OnApplicationBootstrap,
} from '@nestjs/common';
import { watchClocks } from '#core/topology/clock-drift.pg.ts';
import { Loop } from './loop.ts';
import { REPLICATION, type Replication } from './tokens.ts';

@Injectable()
export class ClocksRunner implements OnApplicationBootstrap, BeforeApplicationShutdown {
  readonly #replication: Replication;
  #loop: Loop | null = null;

  constructor(@Inject(REPLICATION) replication: Replication) {
    this.#replication = replication;
  }

  onApplicationBootstrap(): void {
    const { nodes, served, settings } = this.#replication;
    this.#loop = new Loop(this.#replication, 'clocks', (signal, healthy) =>
      watchClocks({ nodes, served, intervalMs: settings.heartbeatIntervalMs, onMeasured: healthy }, signal),
    );
  }

  async beforeApplicationShutdown(): Promise<void> {
    await this.#loop?.stop();
  }
}
