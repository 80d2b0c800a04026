/** One loop a served node: writes its heartbeat. */
import {
  Inject,
  Injectable,
  type BeforeApplicationShutdown,
  type OnApplicationBootstrap,
} from '@nestjs/common';
import { runHeartbeat } from '#core/capture/heartbeat.pg.ts';
import { loopEach, type Loop } from './loop.ts';
import { REPLICATION, type Replication } from './tokens.ts';

@Injectable()
export class HeartbeatRunner implements OnApplicationBootstrap, BeforeApplicationShutdown {
  readonly #replication: Replication;
  #loops: Loop[] = [];

  constructor(@Inject(REPLICATION) replication: Replication) {
    this.#replication = replication;
  }

  onApplicationBootstrap(): void {
    const { heartbeatIntervalMs: intervalMs } = this.#replication.settings;
    this.#loops = loopEach(this.#replication, 'heartbeat', (node, signal, healthy) =>
      runHeartbeat(node.address, { intervalMs, onBeat: healthy }, signal),
    );
  }

  async beforeApplicationShutdown(): Promise<void> {
    await Promise.all(this.#loops.map((loop) => loop.stop()));
  }
}
