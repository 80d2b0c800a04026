/** What the runners are given, by explicit token. */
import type { Paces } from '#core/bandwidth/pace.ts';
import type { Settings } from '#core/config/settings.ts';
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
  /** To be called when a node has another number than `nodes` says: everything begins anew. */
  readonly renumbered: () => void;
}
