/** One loop for each served node: while it joins, waits until it is filled and makes it a master. */
import {
  Inject,
  Injectable,
  type BeforeApplicationShutdown,
  type OnApplicationBootstrap,
} from '@nestjs/common';
import { runFinishJoin } from '#core/membership/finish-join.pg.ts';
import { loopEach, type Loop } from './loop.ts';
import { REPLICATION, type Replication } from './tokens.ts';

@Injectable()
export class JoiningRunner implements OnApplicationBootstrap, BeforeApplicationShutdown {
  readonly #replication: Replication;
  #loops: Loop[] = [];

  constructor(@Inject(REPLICATION) replication: Replication) {
    this.#replication = replication;
  }

  onApplicationBootstrap(): void {
    const { nodes, logger } = this.#replication;
    this.#loops = loopEach(this.#replication, 'joining', (node, signal, onHealthy) => {
      const others = nodes.filter((other) => other.number !== node.number);
      return runFinishJoin({ node, others, logger: logger.child({ joining: node.name }), onHealthy }, signal);
    });
  }

  async beforeApplicationShutdown(): Promise<void> {
    await Promise.all(this.#loops.map((loop) => loop.stop()));
  }
}
