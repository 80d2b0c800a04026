/** One loop a served node: folds what requests have counted into the node's own cells. Apart from housekeeping, since it stands still while a member is down. */
import { setTimeout as sleep } from 'node:timers/promises';
import {
  Inject,
  Injectable,
  type BeforeApplicationShutdown,
  type OnApplicationBootstrap,
} from '@nestjs/common';
import { Folder } from '#core/folding/folder.pg.ts';
import type { ClusterNode } from '#core/topology/found.pg.ts';
import { loopEach, type Loop } from './loop.ts';
import { REPLICATION, type Replication } from './tokens.ts';

const everyMs = 1000;
/** While each pass finds a full page with something to fold. */
const busyMs = 20;

@Injectable()
export class FoldingRunner implements OnApplicationBootstrap, BeforeApplicationShutdown {
  readonly #replication: Replication;
  #loops: Loop[] = [];

  constructor(@Inject(REPLICATION) replication: Replication) {
    this.#replication = replication;
  }

  onApplicationBootstrap(): void {
    this.#loops = loopEach(this.#replication, 'folding', (node, signal, healthy) =>
      this.#run(node, signal, healthy),
    );
  }

  async #run(node: ClusterNode, signal: AbortSignal, healthy: () => void): Promise<void> {
    const { nodes, logger } = this.#replication;
    const folder = new Folder({ node, nodes });
    try {
      while (!signal.aborted) {
        const { folded, more } = await folder.pass();
        healthy();
        if (folded > 0) logger.debug({ node: node.name, keys: folded }, 'counters folded');
        await sleep(more && folded > 0 ? busyMs : everyMs, undefined, { signal }).catch(() => undefined); // the loop's condition sees the abort
      }
    } finally {
      await folder.close();
    }
  }

  async beforeApplicationShutdown(): Promise<void> {
    await Promise.all(this.#loops.map((loop) => loop.stop()));
  }
}
