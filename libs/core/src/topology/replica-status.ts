/** Each node as a replica of all others, from what its edges say. Pure. */
import type { Edge, EdgeState, NodeReport } from './status.ts';

/** As of an edge; `leaving`: the node gives up shards that it still has. */
export type ReplicaStatus = EdgeState | 'leaving';

export interface ReplicaView {
  readonly id: string;
  readonly status: ReplicaStatus;
  readonly lagMs: number | null;
  /** When what it has applied last from its slowest peer was committed. */
  readonly lastSync: string | null;
}

const worstFirst: readonly EdgeState[] = [
  'down',
  'resync',
  'joining',
  'syncing',
  'paused',
  'lagging',
  'active',
];

/** Each node as a replica of all others: as far behind as its slowest edge. Edges of origins that are down do not count while there are others. */
export function replicaStatuses(
  reports: readonly NodeReport[],
  allEdges: readonly Edge[],
  nowMs: number,
): ReplicaView[] {
  const down = new Set(reports.filter((report) => report.facts === null).map((report) => report.name));
  return reports.map((report) => {
    const incoming = allEdges.filter((one) => one.to === report.name);
    const counted = incoming.some((one) => !down.has(one.from))
      ? incoming.filter((one) => !down.has(one.from))
      : incoming;
    const lags = counted.flatMap((one) => one.ms ?? []);
    const lagMs = lags.length > 0 && lags.length === counted.length ? Math.max(...lags) : null;
    return {
      id: report.name,
      status: statusOf(report, counted),
      lagMs,
      lastSync: lagMs === null ? null : new Date(nowMs - lagMs).toISOString(),
    };
  });
}

function statusOf({ facts }: NodeReport, counted: readonly Edge[]): ReplicaStatus {
  if (facts === null) return 'down';
  if (facts.goes === true || facts.leaving > 0) return 'leaving';
  if (facts.filling || facts.joining > 0) return 'joining';
  return worstFirst.find((state) => counted.some((one) => one.state === state)) ?? 'active';
}
