/** What the runners are given, by explicit token. */
import type { Paces } from '#core/bandwidth/pace.ts';
import type { NodeAddress, Settings } from '#core/config/settings.ts';
import type { Logger } from '#core/observability/logger.process.ts';
import type { ClusterNode } from '#core/topology/found.pg.ts';
import type { LogKind } from '#core/topology/names.ts';
import type { ReplicationMetrics } from './metrics.ts';

export const REPLICATION = Symbol('replication');

export interface Replication {
  readonly settings: Settings;
  readonly log: LogKind;
  /** All nodes of the cluster. */
  readonly nodes: readonly ClusterNode[];
  /** Those that this process serves. */
  readonly served: readonly ClusterNode[];
  readonly logger: Logger;
  readonly metrics: ReplicationMetrics;
  /** How fast the edges of this process may read. */
  readonly paces: Paces;
  /** Listed in the settings, and no nodes of the cluster any more. */
  readonly removed: readonly NodeAddress[];
  /** To be called when the nodes are not those that `nodes` says: others, or under another number. Everything begins anew. */
  readonly moved: () => void;
}
