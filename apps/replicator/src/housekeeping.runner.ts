/** One loop a served node: forgets what has been remembered for long enough. */
import { setTimeout as sleep } from 'node:timers/promises';
import {
  Inject,
  Injectable,
  type BeforeApplicationShutdown,
  type OnApplicationBootstrap,
} from '@nestjs/common';
import { closeClient, connect } from '#core/postgres/connect.pg.ts';
import type { ClusterNode } from '#core/topology/found.pg.ts';
import { forgetRequests } from '#core/writes/forget-requests.pg.ts';
import { Loop } from './loop.ts';
import { REPLICATION, type Replication } from './tokens.ts';

const everyMs = 60_000;

@Injectable()
export class HousekeepingRunner implements OnApplicationBootstrap, BeforeApplicationShutdown {
  readonly #replication: Replication;
  #loops: Loop[] = [];

  constructor(@Inject(REPLICATION) replication: Replication) {
    this.#replication = replication;
  }

  onApplicationBootstrap(): void {
    this.#loops = this.#replication.served.map(
      (node) =>
        new Loop(this.#replication, `housekeeping ${node.name}`, (signal, healthy) =>
          this.#run(node, signal, healthy),
        ),
    );
  }

  async #run(node: ClusterNode, signal: AbortSignal, healthy: () => void): Promise<void> {
    healthy();
    while (!signal.aborted) {
      await sleep(everyMs, undefined, { signal }).catch(() => undefined); // the loop's condition sees the abort
      if (signal.aborted) return;
      const client = await connect(node.address, {
        application: 'pgquorum housekeeping',
        answerWithinMs: 60_000,
      });
      try {
        const gone = await forgetRequests(client, this.#replication.settings.requestRetentionMs);
        if (gone > 0)
          this.#replication.logger.debug({ node: node.name, requests: gone }, 'old requests forgotten');
      } finally {
        await closeClient(client);
      }
    }
  }

  async beforeApplicationShutdown(): Promise<void> {
    await Promise.all(this.#loops.map((loop) => loop.stop()));
  }
}
