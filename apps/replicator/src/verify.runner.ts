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
import type { PurgingWaits } from '#core/verify/purge.pg.ts';
import { loopEach, type Loop } from './loop.ts';
import { REPLICATION, type Replication } from './tokens.ts';

const everyMs = 5000;

@Injectable()
export class VerifyRunner implements OnApplicationBootstrap, BeforeApplicationShutdown {
  readonly #replication: Replication;
  #loops: Loop[] = [];
  readonly #waiting = new Map<string, PurgingWaits | null>();

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
            onPurging: (collection, waits) => this.#tellPurging(me, collection, waits),
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

  /** Told once for each reason, so that the log is not full of one that lasts. */
  #tellPurging(me: ClusterNode, collection: string, waits: PurgingWaits | null): void {
    const { metrics, logger } = this.#replication;
    const place = `${me.name} ${collection}`;
    const before = this.#waiting.get(place) ?? null;
    if (before?.detail === waits?.detail) return;
    if (before !== null)
      metrics.verify.purgingWaits.remove({ node: me.name, collection, reason: before.waits });
    if (waits !== null)
      metrics.verify.purgingWaits.set({ node: me.name, collection, reason: waits.waits }, 1);
    this.#waiting.set(place, waits);
    if (waits === null) logger.info({ verify: me.name, collection }, 'tombstones may be purged again');
    else logger.info({ verify: me.name, collection, ...waits }, 'no tombstones are purged for now');
  }

  async beforeApplicationShutdown(): Promise<void> {
    await Promise.all(this.#loops.map((loop) => loop.stop()));
  }
}
