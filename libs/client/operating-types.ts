/** What operators look at: conflicts, dead letters, replication and the cluster. */
import type { EmbeddingInput } from './embedding.ts';
import type { Metadata, Page, Version } from './types.ts';

export interface ConflictFilter {
  readonly collection?: string;
  readonly key?: string;
  readonly state?: 'open' | 'superseded' | 'resolved' | 'restored';
  readonly kind?: string;
  /** The node that took the losing write. */
  readonly origin?: string;
  readonly since?: string;
  readonly until?: string;
  readonly noise?: boolean;
}
export interface Conflict {
  readonly id: string;
  readonly collection: string;
  readonly key: string;
  readonly shard: number;
  readonly kind: string;
  readonly state: string;
  readonly loser: { readonly version: Version; readonly deleted: boolean; readonly row: unknown };
  readonly winner: {
    readonly text: string;
    readonly origin: string;
    readonly counter: string;
    readonly hlc: string;
    readonly clock: Version['clock'];
  };
  readonly current: { readonly version: Version; readonly deleted: boolean } | null;
  readonly noise: boolean | null;
  readonly decidedBy: string;
  readonly reason: string;
  readonly attempt: {
    readonly at: string;
    readonly resolver: string;
    readonly version: string | null;
    readonly error: string;
    readonly tries: number;
    readonly node: string;
  } | null;
  readonly foundAt: string;
  readonly stateAt: string;
  readonly stateHlc: string;
  readonly stateOrigin: string;
}
export interface ConflictCounts {
  readonly items: readonly {
    readonly collection: string;
    readonly state: string;
    readonly kind: string;
    readonly count: number;
  }[];
  readonly total: number;
}
export interface Resolution {
  readonly metadata?: Metadata;
  readonly embedding?: EmbeddingInput | null;
  readonly deleted?: boolean;
}
interface SettledConflict {
  readonly id: string;
  readonly collection: string;
  readonly key: string;
  readonly deleted: boolean;
  readonly version: Version;
  readonly coordinator: string;
  readonly acks: readonly string[];
}
export interface RestoredConflict extends SettledConflict {
  /** The record of what was replaced. */
  readonly replaced: string | null;
}
export interface ResolvedConflict extends SettledConflict {
  readonly resolved: readonly string[];
}

export interface DeadLetterFilter {
  readonly node?: string;
  readonly origin?: string;
  readonly collection?: string;
  readonly key?: string;
  readonly sqlstate?: string;
  readonly since?: string;
  readonly until?: string;
}
export interface DeadLetter {
  readonly id: string;
  readonly node: string;
  readonly origin: string;
  readonly log: string;
  readonly lsn: string | null;
  readonly collection: string;
  readonly key: string;
  readonly change: string | null;
  readonly code: string | null;
  readonly sqlstate: string | null;
  readonly message: string;
  readonly commitTime: string | null;
  readonly at: string;
  readonly tries: number;
  readonly triedAt: string | null;
  readonly bytes: number;
}
export interface InspectedDeadLetter extends DeadLetter {
  readonly payload: Readonly<Record<string, unknown>>;
}
export interface DeadLetterPage extends Page<DeadLetter> {
  readonly unreachable?: readonly string[];
}
export interface ReplayedDeadLetter {
  readonly id: string;
  readonly node: string;
  readonly collection: string;
  readonly key: string;
  readonly outcome: 'written' | 'seen' | 'conflict';
}

export type EdgeState = 'joining' | 'syncing' | 'active' | 'lagging' | 'paused' | 'resync' | 'down';
export interface Edge {
  readonly from: string;
  readonly to: string;
  readonly ms: number | null;
  readonly bytes: number | null;
  readonly kept: number | null;
  readonly changes: number | null;
  readonly parked: number | null;
  readonly parkedMs: number | null;
  readonly applied: string | null;
  readonly state: EdgeState;
  readonly problem: string | null;
}
export interface Lag {
  readonly maxMs: number | null;
  readonly edges: readonly Edge[];
}
export interface Replica {
  readonly id: string;
  readonly status: EdgeState | 'leaving';
  readonly lagMs: number | null;
  readonly lastSync: string | null;
}
export interface NewReplica {
  readonly name: string;
  readonly url: string;
  readonly zone?: string;
  readonly weight?: number;
  readonly allow?: { readonly sequences?: boolean };
}
export interface Limits {
  readonly bytesPerSecond?: number | null;
  readonly totalBytesPerSecond?: number | null;
}
export interface Throttle {
  readonly bytesPerSecond: number | null;
  readonly totalBytesPerSecond: number | null;
  readonly revision: string;
}
export interface Verification {
  readonly collection?: string;
  readonly deep?: boolean;
  readonly repair?: 'none' | 'merge' | `prefer:${string}`;
}

export interface Node {
  readonly id: string;
  readonly number: number;
  readonly zone: string;
  readonly status: 'alive' | 'degraded' | 'suspect' | 'down' | 'joining' | 'leaving';
  readonly lastHeartbeat: string | null;
  readonly shards: number | null;
  readonly openConflicts: number | null;
  readonly deadLetters: number | null;
  readonly clockOffsetMs: number | null;
  readonly problem: 'clock_drift' | null;
  readonly primaryOf: number | null;
}
export interface Health {
  readonly status: 'healthy' | 'degraded' | 'unavailable';
  readonly healthyNodes: number;
  readonly totalNodes: number;
  readonly problems: readonly string[];
}
export interface Shard {
  readonly id: number;
  readonly primary: string | null;
  readonly replicas: readonly string[];
  readonly next?: readonly string[];
  readonly status: 'active' | 'moving' | 'degraded' | 'unavailable';
}
export interface ShardOfKey {
  readonly shard: number;
  readonly primary: string | null;
  readonly replicas: readonly string[];
}
export interface Overview {
  readonly at: string;
  readonly health: Health;
  readonly nodes: readonly Node[];
  readonly lag: Lag;
  readonly conflicts: readonly Pick<Conflict, 'id' | 'collection' | 'key' | 'kind' | 'foundAt'>[];
  readonly written: number;
}

/** With the fields of its type beside these. */
export interface ClusterEvent {
  readonly id: string;
  readonly type: string;
  readonly at: string;
  readonly node: string;
  readonly [field: string]: unknown;
}

export interface Change {
  /** Where the stream can be taken up again: on the last change of a transaction. */
  readonly position: string | null;
  readonly id: string;
  readonly op: 'upsert' | 'delete' | 'conflict';
  readonly collection: string;
  readonly key: string;
  readonly shard: number;
  readonly origin: string;
  readonly committedAt: string;
  readonly lsn: string;
  readonly row?: Readonly<Record<string, unknown>> | null;
  readonly [field: string]: unknown;
}
