/** One loop for every edge into a served node: reads the origin's change log and applies it. */
import {
  Inject,
  Injectable,
  type BeforeApplicationShutdown,
  type OnApplicationBootstrap,
} from '@nestjs/common';
import { runMendedEdge } from '#core/resync/edge.pg.ts';
import type { ClusterNode } from '#core/topology/found.pg.ts';
import { requireConfirmed } from '#core/topology/confirmed.pg.ts';
import { notePosition, openReader } from './change-log.ts';
import { Loop } from './loop.ts';
import { REPLICATION, type Replication } from './tokens.ts';

/** How often an idle lane writes how far it is. */
const idleProgressMs = 1000;

@Injectable()
export class EdgesRunner implements OnApplicationBootstrap, BeforeApplicationShutdown {
  readonly #replication: Replication;
  #loops: Loop[] = [];

  constructor(@Inject(REPLICATION) replication: Replication) {
    this.#replication = replication;
  }

  onApplicationBootstrap(): void {
    const { nodes, served } = this.#replication;
    this.#loops = served.flatMap((target) =>
      nodes.filter((origin) => origin.number !== target.number).map((origin) => this.#edge(origin, target)),
    );
  }

  #edge(origin: ClusterNode, target: ClusterNode): Loop {
    const { settings, log, logger, metrics } = this.#replication;
    const name = `edge ${origin.name} ${target.name}`;
    const labels = { origin: origin.name, target: target.name };
    return new Loop(this.#replication, name, async (signal, healthy) => {
      // What comes by a topic does not depend on whether its origin is there.
      for (const node of log === 'wal' ? [target, origin] : [target]) await requireConfirmed(node, signal);
      await runMendedEdge(
        {
          cluster: settings.cluster,
          origin,
          target,
          log,
          openReader: (start, control) => openReader(this.#replication, { origin, target, start, control }),
          lanes: settings.applyLanes,
          batchSize: settings.batchSize,
          syncIntervalMs: settings.syncIntervalMs,
          idleProgressMs,
          logger: logger.child({ edge: `${origin.name} ${target.name}` }),
          onHealthy: healthy,
          note: (source, aborting) => notePosition(this.#replication, { origin, target, source }, aborting),
          onResync: (resyncing) => metrics.resyncing.set(labels, resyncing ? 1 : 0),
          onSetAside: (outcome) => metrics.edge.setAside.inc({ ...labels, outcome }),
          onQueued: (changes) => metrics.edge.queued.set(labels, changes),
          onApplied: (counts, durationMs) => {
            metrics.applied.inc({ ...labels, outcome: 'written' }, counts.written);
            metrics.applied.inc({ ...labels, outcome: 'skipped' }, counts.skipped);
            for (const { collection, kind } of counts.found)
              metrics.conflicts.inc({ ...labels, collection, kind });
            metrics.batchSeconds.observe(labels, durationMs / 1000);
          },
        },
        signal,
      );
    });
  }

  async beforeApplicationShutdown(): Promise<void> {
    await Promise.all(this.#loops.map((loop) => loop.stop()));
  }
}
