/** One loop a served node: tells on it what changes about replicas and edges. Its view of them is also what this process is ready by. */
import {
  Inject,
  Injectable,
  type BeforeApplicationShutdown,
  type OnApplicationBootstrap,
} from '@nestjs/common';
import { Nodes } from '#core/topology/nodes.pg.ts';
import { StatusBoard, type ClusterStatus } from '#core/topology/status.pg.ts';
import { stuckEdges } from '#core/topology/status.ts';
import { watchReplication } from '#core/topology/watch.pg.ts';
import { loopEach, type Loop } from './loop.ts';
import { REPLICATION, type Replication } from './tokens.ts';

@Injectable()
export class WatchRunner implements OnApplicationBootstrap, BeforeApplicationShutdown {
  readonly #replication: Replication;
  readonly nodes: Nodes;
  readonly #board: StatusBoard;
  #loops: Loop[] = [];

  constructor(@Inject(REPLICATION) replication: Replication) {
    this.#replication = replication;
    this.nodes = new Nodes(replication.nodes, { poolMax: 1, application: 'pgquorum watch' });
    this.nodes.onChange(replication.moved);
    this.#board = new StatusBoard(this.nodes, replication.settings);
  }

  onApplicationBootstrap(): void {
    const { settings } = this.#replication;
    this.#loops = loopEach(this.#replication, 'watch', (node, signal, healthy) =>
      watchReplication(
        {
          node,
          board: this.#board,
          intervalMs: settings.heartbeatIntervalMs,
          lagExceededMs: settings.lagExceededMs,
          onWatching: healthy,
        },
        signal,
      ),
    );
  }

  status(): Promise<ClusterStatus> {
    return this.#board.read();
  }

  /** Edges into served nodes that do not move, though both sides are up. */
  async stuck(): Promise<string[]> {
    const { reports, edges } = await this.#board.readiness();
    const served = new Set(this.#replication.served.map((node) => node.name));
    return stuckEdges(
      reports,
      edges.filter((edge) => served.has(edge.to)),
    );
  }

  async beforeApplicationShutdown(): Promise<void> {
    await Promise.all(this.#loops.map((loop) => loop.stop()));
    await this.nodes.close();
  }
}
