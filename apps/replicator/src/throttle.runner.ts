/** One loop: holds edges to the limits that were set last, brings those to served nodes that lack them, and tells when an edge is held back. */
import { setTimeout as sleep } from 'node:timers/promises';
import {
  Inject,
  Injectable,
  type BeforeApplicationShutdown,
  type OnApplicationBootstrap,
} from '@nestjs/common';
import { newest, isNewer, limitsOf } from '#core/bandwidth/limits.ts';
import type { EdgePace } from '#core/bandwidth/pace.ts';
import { keepLimits } from '#core/bandwidth/store.pg.ts';
import { PaceWatch } from '#core/bandwidth/pace-watch.pg.ts';
import { isNodeFailure } from '#core/topology/nodes.pg.ts';
import type { ClusterStatus } from '#core/topology/status.pg.ts';
import { Loop } from './loop.ts';
import { REPLICATION, type Replication } from './tokens.ts';
import { WatchRunner } from './watch.runner.ts';

const everyMs = 500;

@Injectable()
export class ThrottleRunner implements OnApplicationBootstrap, BeforeApplicationShutdown {
  readonly #replication: Replication;
  readonly #watch: WatchRunner;
  readonly #measured = new Map<EdgePace, { readonly spent: number; readonly heldMs: number }>();
  #loop: Loop | null = null;

  constructor(@Inject(REPLICATION) replication: Replication, @Inject(WatchRunner) watch: WatchRunner) {
    this.#replication = replication;
    this.#watch = watch;
  }

  onApplicationBootstrap(): void {
    const { paces } = this.#replication;
    this.#loop = new Loop(this.#replication, 'throttle', async (signal, healthy) => {
      const watch = new PaceWatch(paces);
      while (!signal.aborted) {
        const status = await this.#watch.status();
        await this.#follow(status);
        this.#measure();
        for (const node of this.#served())
          await this.#onNode(node, (client) => watch.tell(client, node.number));
        healthy();
        await sleep(everyMs, undefined, { signal }).catch(() => undefined); // the loop's condition sees the abort
      }
    });
  }

  async #follow({ reports }: ClusterStatus): Promise<void> {
    const { settings, paces, logger } = this.#replication;
    const known = reports.flatMap(({ facts }) => (facts === null ? [] : [facts.limits]));
    if (known.length === 0) return; // no node tells: as before
    const stored = newest(known);
    const { bytesPerSecond, totalBytesPerSecond } = stored ?? limitsOf(settings);
    const before = paces.limits;
    if (before.bytesPerSecond !== bytesPerSecond || before.totalBytesPerSecond !== totalBytesPerSecond) {
      paces.limit({ bytesPerSecond, totalBytesPerSecond });
      logger.info({ bytesPerSecond, totalBytesPerSecond }, 'the limits of edges are others now');
    }
    if (stored === null) return;
    for (const node of this.#served()) {
      const facts = reports.find(({ name }) => name === node.name)?.facts;
      if (facts != null && isNewer(stored, facts.limits))
        await this.#onNode(node, (client) => keepLimits(client, stored));
    }
  }

  #measure(): void {
    const { nodes, paces, metrics } = this.#replication;
    const nameOf = (number: number): string => nodes.find((node) => node.number === number)!.name;
    for (const { origin, target, pace } of paces.all) {
      const labels = { origin: nameOf(origin), target: nameOf(target) };
      const { spent, heldMs } = pace;
      const before = this.#measured.get(pace) ?? { spent: 0, heldMs: 0 };
      metrics.edge.read.inc(labels, spent - before.spent);
      metrics.edge.held.inc(labels, Math.max(0, heldMs - before.heldMs) / 1000);
      this.#measured.set(pace, { spent, heldMs: Math.max(heldMs, before.heldMs) });
    }
    metrics.edge.limit.set({ of: 'edge' }, paces.limits.bytesPerSecond ?? 0);
    metrics.edge.limit.set({ of: 'node' }, paces.limits.totalBytesPerSecond ?? 0);
  }

  #served() {
    const names = new Set(this.#replication.served.map((node) => node.name));
    return this.#watch.nodes.live.filter((node) => names.has(node.name));
  }

  /** A node that is lost does not keep the others from the limits. */
  async #onNode(
    node: WatchRunner['nodes']['all'][number],
    work: (client: Parameters<typeof keepLimits>[0]) => Promise<void>,
  ): Promise<void> {
    try {
      await work(node.statusPool);
    } catch (cause) {
      if (!isNodeFailure(cause)) throw cause;
    }
  }

  async beforeApplicationShutdown(): Promise<void> {
    await this.#loop?.stop();
  }
}
