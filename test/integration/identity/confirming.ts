/** What a replicator does for the identity of a node, for tests without one. */
import { createLogger } from '#core/observability/logger.process.ts';
import type { ClusterNode } from '#core/topology/found.pg.ts';
import { watchIdentity } from '#core/topology/identity.pg.ts';

/** Confirms each start of the node's server until it is disposed of. */
export function confirming(node: ClusterNode, peers: readonly ClusterNode[]): AsyncDisposable {
  const abort = new AbortController();
  const watching = watchIdentity(
    {
      node,
      peers,
      intervalMs: 100,
      aliveMs: 60_000,
      logger: createLogger({ app: 'test', level: 'silent' }),
      onRenumbered: () => undefined,
    },
    abort.signal,
  );
  return {
    [Symbol.asyncDispose]: async () => {
      abort.abort();
      await watching;
    },
  };
}
