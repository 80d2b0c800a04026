/** One loop a served node: runs the custom resolvers of collections for the shards whose primary it is. */
import {
  Inject,
  Injectable,
  type BeforeApplicationShutdown,
  type OnApplicationBootstrap,
} from '@nestjs/common';
import { ResolverModules } from '#core/conflicts/resolver-modules.process.ts';
import { runResolvers } from '#core/conflicts/resolvers.pg.ts';
import type { ClusterNode } from '#core/topology/found.pg.ts';
import { Nodes } from '#core/topology/nodes.pg.ts';
import { ShardPlacement } from '#core/topology/shard-placement.ts';
import { Loop } from './loop.ts';
import { REPLICATION, type Replication } from './tokens.ts';

@Injectable()
export class ResolversRunner implements OnApplicationBootstrap, BeforeApplicationShutdown {
  readonly #replication: Replication;
  readonly #modules: ResolverModules[] = [];
  #nodes: Nodes | null = null;
  #loops: Loop[] = [];

  constructor(@Inject(REPLICATION) replication: Replication) {
    this.#replication = replication;
  }

  onApplicationBootstrap(): void {
    const { nodes, served, settings } = this.#replication;
    // As a gateway chooses: the first live node in the shard's order.
    const placement = new ShardPlacement(nodes, settings);
    const live = new Nodes(nodes, { poolMax: 1, application: 'pgquorum resolvers' });
    this.#nodes = live;
    this.#loops = served.map((node) => this.#loop(node, placement, live));
  }

  #loop(node: ClusterNode, placement: ShardPlacement, live: Nodes): Loop {
    const { settings, logger, metrics } = this.#replication;
    // Threads of its own: a question that hangs for one node ends its thread, and no other node's question with it.
    const modules = new ResolverModules({
      folder: settings.resolversDir,
      timeoutMs: settings.resolverTimeoutMs,
      memoryBytesMax: settings.resolverMemoryBytesMax,
    });
    this.#modules.push(modules);
    return new Loop(this.#replication, `resolvers ${node.name}`, (signal, healthy) =>
      runResolvers(
        {
          node,
          isPrimary: (collection, shard) =>
            live.inOrder(placement.replicasOf(collection, shard))[0]?.name === node.name,
          modules,
          timeoutMs: settings.resolverTimeoutMs,
          logger: logger.child({ node: node.name }),
          onLeased: healthy,
          onResolved: (collection, records) => metrics.resolved.inc({ node: node.name, collection }, records),
          onFailed: (collection) => metrics.resolverFailures.inc({ node: node.name, collection }),
        },
        signal,
      ),
    );
  }

  async beforeApplicationShutdown(): Promise<void> {
    await Promise.all(this.#loops.map((loop) => loop.stop()));
    await Promise.all([
      this.#nodes?.close(),
      ...this.#modules.map((modules) => modules[Symbol.asyncDispose]()),
    ]);
  }
}
