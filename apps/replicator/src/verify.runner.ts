/** One loop a served node: compares its share of all shards again and again, mends what differs, purges what everyone has forgotten. */
import { setTimeout as sleep } from 'node:timers/promises';
import {
  Inject,
  Injectable,
  type BeforeApplicationShutdown,
  type OnApplicationBootstrap,
} from '@nestjs/common';
import { SessionLease } from '#core/postgres/session-lease.pg.ts';
import type { ClusterNode } from '#core/topology/found.pg.ts';
import { verifyDue } from '#core/verify/continuous.pg.ts';
import { loopEach, type Loop } from './loop.ts';
import { REPLICATION, type Replication } from './tokens.ts';

const everyMs = 5000;

@Injectable()
export class VerifyRunner implements OnApplicationBootstrap, BeforeApplicationShutdown {
  readonly #replication: Replication;
  #loops: Loop[] = [];

  constructor(@Inject(REPLICATION) replication: Replication) {
    this.#replication = replication;
  }

  onApplicationBootstrap(): void {
    const { nodes, settings } = this.#replication;
    if (settings.verifyRowsPerS === 0 || nodes.length < 2) return;
    this.#loops = loopEach(this.#replication, 'verify', (node, signal, healthy) =>
      this.#run(node, signal, healthy),
    );
  }

  async #run(me: ClusterNode, signal: AbortSignal, healthy: () => void): Promise<void> {
    const { nodes, settings, logger, metrics } = this.#replication;
    // Of several processes that serve a node one does it.
    const lease = await SessionLease.take(me.address, 'verify', signal);
    if (lease === null) return;
    try {
      while (!signal.aborted) {
        await lease.check();
        await verifyDue(
          {
            cluster: settings.cluster,
            me,
            nodes,
            rowsPerSecond: settings.verifyRowsPerS,
            intervalMs: settings.verifyIntervalMs,
            graceMs: settings.tombstoneGraceMs,
            logger: logger.child({ verify: me.name }),
            onShard: (collection, { differences, mended }) => {
              metrics.verify.differences.inc({ collection }, differences);
              metrics.verify.mended.inc({ collection }, mended);
            },
            onVerified: (collection, since) =>
              metrics.verify.verifiedAt.set({ node: me.name, collection }, (since?.getTime() ?? 0) / 1000),
            onPurged: (collection, tombstones) => metrics.verify.purged.inc({ collection }, tombstones),
          },
          signal,
        );
        healthy();
        await sleep(Math.min(everyMs, settings.verifyIntervalMs), undefined, { signal }).catch(
          () => undefined,
        ); // the loop's condition sees the abort
      }
    } finally {
      await lease.release();
    }
  }

  async beforeApplicationShutdown(): Promise<void> {
    await Promise.all(this.#loops.map((loop) => loop.stop()));
  }
}
