/** With a budget and the policy to release: one loop a served node, which lets go of WAL that it keeps for dead peers. */
import { setTimeout as sleep } from 'node:timers/promises';
import {
  Inject,
  Injectable,
  type BeforeApplicationShutdown,
  type OnApplicationBootstrap,
} from '@nestjs/common';
import { releaseOverBudget } from '#core/capture/wal-budget.pg.ts';
import { withConnection } from '#core/postgres/connect.pg.ts';
import { loopEach, type Loop } from './loop.ts';
import { REPLICATION, type Replication } from './tokens.ts';

const everyMs = 2000;
const connection = { application: 'pgquorum wal budget', answerWithinMs: 10_000 };

@Injectable()
export class WalBudgetRunner implements OnApplicationBootstrap, BeforeApplicationShutdown {
  readonly #replication: Replication;
  #loops: Loop[] = [];

  constructor(@Inject(REPLICATION) replication: Replication) {
    this.#replication = replication;
  }

  onApplicationBootstrap(): void {
    const { log, nodes, settings, logger } = this.#replication;
    const { cluster, walBudgetBytes: budgetBytes, walBudgetPolicy } = settings;
    if (log !== 'wal' || budgetBytes === 0 || walBudgetPolicy === 'keep') return;
    this.#loops = loopEach(this.#replication, 'wal-budget', async (origin, signal, healthy) => {
      await withConnection(origin.address, connection, async (client) => {
        while (!signal.aborted) {
          for (const released of await releaseOverBudget(client, { cluster, origin, nodes, budgetBytes }))
            logger.warn(
              { node: origin.name, ...released },
              'a peer that does not read is behind by more than the budget of WAL: its slot was let go, and it resyncs when it is back',
            );
          healthy();
          await sleep(everyMs, undefined, { signal }).catch(() => undefined); // the loop's condition sees the abort
        }
      });
    });
  }

  async beforeApplicationShutdown(): Promise<void> {
    await Promise.all(this.#loops.map((loop) => loop.stop()));
  }
}
