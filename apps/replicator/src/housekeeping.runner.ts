/** One loop a served node: forgets what has been remembered for long enough, and counts what somebody should look at. */
import { setTimeout as sleep } from 'node:timers/promises';
import {
  Inject,
  Injectable,
  type BeforeApplicationShutdown,
  type OnApplicationBootstrap,
} from '@nestjs/common';
import type pg from 'pg';
import { tendAnchor } from '#core/changes/anchor.pg.ts';
import { completeRecords } from '#core/conflicts/complete-records.pg.ts';
import { countOpenConflicts, forgetConflicts } from '#core/conflicts/forget.pg.ts';
import { forgetDdl } from '#core/ddl/work.pg.ts';
import { forgetEvents } from '#core/events/log.pg.ts';
import { forgetJobs } from '#core/jobs/store.pg.ts';
import { withConnection } from '#core/postgres/connect.pg.ts';
import type { ClusterNode } from '#core/topology/found.pg.ts';
import { forgetRequests } from '#core/writes/forget-requests.pg.ts';
import { loopEach, type Loop } from './loop.ts';
import { REPLICATION, type Replication } from './tokens.ts';

const countEveryMs = 5000;
const forgetEveryMs = 60_000;
const connection = { application: 'pgquorum housekeeping', answerWithinMs: 60_000 };
const jobsKept = { keptMs: 7 * 86_400_000, keptMax: 10_000 };

@Injectable()
export class HousekeepingRunner implements OnApplicationBootstrap, BeforeApplicationShutdown {
  readonly #replication: Replication;
  #loops: Loop[] = [];

  constructor(@Inject(REPLICATION) replication: Replication) {
    this.#replication = replication;
  }

  onApplicationBootstrap(): void {
    this.#loops = loopEach(this.#replication, 'housekeeping', (node, signal, healthy) =>
      this.#run(node, signal, healthy),
    );
  }

  async #run(node: ClusterNode, signal: AbortSignal, healthy: () => void): Promise<void> {
    await withConnection(node.address, connection, async (client) => {
      healthy();
      for (let forgotAt = -Infinity; !signal.aborted;) {
        if (performance.now() - forgotAt >= forgetEveryMs) {
          await this.#forget(node, client);
          forgotAt = performance.now();
        }
        const completed = await completeRecords(client);
        if (completed > 0)
          this.#replication.logger.info(
            { node: node.name, records: completed },
            'conflict records have the columns that their table has got',
          );
        await this.#count(node, client);
        await this.#tend(node, client);
        await sleep(countEveryMs, undefined, { signal }).catch(() => undefined); // the loop's condition sees the abort
      }
    });
  }

  async #forget(node: ClusterNode, client: pg.Client): Promise<void> {
    const { settings, logger } = this.#replication;
    const requests = await forgetRequests(client, settings.requestRetentionMs);
    const conflicts = await forgetConflicts(client, {
      keptMax: settings.conflictsKeptMax,
      keptMs: settings.conflictsKeptMs,
    });
    const events = await forgetEvents(client, settings.eventsKeptMs);
    const jobs = (await forgetJobs(client, jobsKept)) + (await forgetDdl(client));
    if (requests + conflicts + events + jobs > 0)
      logger.debug(
        { node: node.name, requests, conflicts, events, jobs },
        'old requests, conflicts, events and jobs forgotten',
      );
  }

  /** Bounds what is kept for streams of changes. */
  async #tend(node: ClusterNode, client: pg.Client): Promise<void> {
    const { settings, logger } = this.#replication;
    const done = await tendAnchor(client, {
      keptBytes: settings.changesKeptBytes,
      unusedMs: settings.changesUnusedMs,
    });
    if (done === 'dropped')
      logger.info({ node: node.name }, 'no stream of changes came for long: their slot was dropped');
  }

  async #count(node: ClusterNode, client: pg.Client): Promise<void> {
    const { openConflicts } = this.#replication.metrics;
    const counted = new Map(
      (await countOpenConflicts(client)).map(({ collection, count }) => [collection, count]),
    );
    for (const { labels } of (await openConflicts.get()).values)
      if (labels.node === node.name && !counted.has(String(labels.collection))) openConflicts.remove(labels);
    for (const [collection, count] of counted) openConflicts.set({ node: node.name, collection }, count);
  }

  async beforeApplicationShutdown(): Promise<void> {
    await Promise.all(this.#loops.map((loop) => loop.stop()));
  }
}
