/** What the gateway takes and gives. Answers may have more fields than stand here. Integers of 64 bits are texts. */
import type { Embedding, EmbeddingInput } from './embedding.ts';
import type { Problem } from './error.ts';

export interface Page<T> {
  readonly items: readonly T[];
  readonly nextCursor?: string;
}
export interface PageOptions {
  readonly limit?: number;
  readonly cursor?: string;
}

// Collections ----------------------------------------------------------------------------------------------------------------------

export type Metric = 'cosine' | 'l2' | 'inner-product' | 'l1' | 'hamming' | 'jaccard';
export type VectorType = 'vector' | 'halfvec' | 'sparsevec' | 'bit';
/** How many replicas have a write before it is acknowledged, or are asked by a read. */
export type Consistency = 'one' | 'quorum' | 'all';
export type CrdtType = 'g-counter' | 'pn-counter' | 'lww-register' | 'or-set';

export interface ConflictRules {
  readonly strategy?: 'lww' | 'vector-clock' | 'crdt' | 'custom';
  readonly crdt?: Readonly<Record<string, CrdtType>>;
  readonly resolver?: string;
  readonly models?: readonly string[];
  readonly cosineTolerance?: number;
}

export interface CollectionRequest {
  readonly dimension: number;
  readonly metric?: Metric;
  readonly vectorType?: VectorType;
  readonly shards?: number;
  readonly replicationFactor?: number;
  readonly partitioning?: { readonly type: 'hash' | 'range'; readonly splitPoints?: readonly string[] };
  readonly nonHostWrites?: 'accept' | 'refuse';
  readonly writes?: 'any';
  readonly consistency?: Consistency;
  readonly conflicts?: ConflictRules;
  readonly index?: {
    readonly type?: 'hnsw' | 'none';
    readonly m?: number;
    readonly efConstruction?: number;
  };
}

export interface CollectionDefinition {
  readonly dimension: number;
  readonly metric: Metric;
  readonly vectorType: VectorType;
  readonly shards: number;
  readonly partitioning?: { readonly type: 'range'; readonly splitPoints: readonly string[] };
  readonly replicationFactor?: number;
  readonly nonHostWrites?: 'refuse';
  readonly writes: 'any';
  readonly consistency?: Consistency;
  readonly conflicts: ConflictRules & { readonly strategy: NonNullable<ConflictRules['strategy']> };
  readonly index:
    | { readonly type: 'hnsw'; readonly m: number; readonly efConstruction: number }
    | { readonly type: 'none' };
  readonly attached?: {
    readonly embedding: string | null;
    readonly metadata: string | null;
    readonly updatedAt: string | null;
  };
}

export interface Collection {
  readonly name: string;
  readonly definition: CollectionDefinition;
  readonly shards: number;
  readonly createdAt: string;
}
export interface MeasuredCollection extends Collection {
  readonly rows: number;
  readonly bytes: number;
}

export interface AttachRequest {
  readonly table: string;
  readonly updatedAtColumn?: string;
  readonly embedding?: string;
  readonly metadata?: string;
  readonly metric?: Metric;
  readonly shards?: number;
  readonly conflicts?: ConflictRules;
  readonly allow?: {
    readonly uniqueConstraints?: boolean;
    readonly sequences?: boolean;
    readonly triggers?: readonly string[];
  };
}

// Vectors --------------------------------------------------------------------------------------------------------------------------

export interface Version {
  /** As in `ETag` and `If-Match`. */
  readonly text: string;
  readonly origin: string;
  readonly counter: string;
  readonly hlc: string | null;
  readonly clock: Readonly<Record<string, string>> | null;
}

export type Metadata = Readonly<Record<string, unknown>>;

export interface VectorItem {
  readonly id: string;
  readonly embedding: EmbeddingInput | null;
  readonly metadata?: Metadata;
  readonly model?: string;
}

export type CrdtOperation =
  | { readonly increment: number }
  | { readonly decrement: number }
  | { readonly add: string | number | boolean }
  | { readonly remove: string | number | boolean }
  | { readonly set: unknown };

export interface VectorPatch {
  /** A merge patch. */
  readonly metadata?: Metadata;
  readonly embedding?: EmbeddingInput | null;
  readonly model?: string;
  readonly crdt?: Readonly<Record<string, CrdtOperation>>;
}

export interface WrittenItem {
  readonly id: string;
  readonly shard: number;
  readonly version: Version;
  /** What a patch did to CRDT fields. */
  readonly operation?: { readonly origin: string; readonly counter: string };
  readonly coordinator: string;
  readonly acks: readonly string[];
  /** With `onTimeout: 'degrade'`: what was reached in time. */
  readonly reached?: Consistency;
}
export interface FailedItem {
  readonly id: string | null;
  readonly error: Problem;
}

export interface WriteAnswer {
  readonly results: readonly (WrittenItem | FailedItem)[];
  readonly consistency: Consistency;
}
export interface WrittenVector extends WrittenItem {
  readonly consistency: Consistency;
}

export interface Sibling {
  readonly conflictId: string;
  readonly embedding: Embedding | null;
  readonly metadata: unknown;
  readonly version: Version;
  readonly deleted?: true;
}

export interface StoredVector {
  readonly id: string;
  readonly embedding: Embedding | null;
  readonly metadata: unknown;
  readonly version: Version | null;
  readonly node: string;
  readonly crdt?: unknown;
  readonly model?: string | null;
  readonly siblings?: readonly Sibling[];
}

interface SearchOptions {
  readonly k?: number;
  readonly filter?: Readonly<Record<string, unknown>> | null;
  readonly efSearch?: number;
  readonly include?: readonly ('embedding' | 'metadata' | 'version' | 'crdt')[];
  readonly maxDistance?: number;
  readonly consistency?: 'one' | 'all-shards';
  readonly allowPartial?: boolean;
}
/** Near an embedding, or near the vector of an id. */
export type SearchRequest = SearchOptions &
  (
    | { readonly embedding: EmbeddingInput; readonly id?: never }
    | { readonly id: string; readonly embedding?: never }
  );

export interface Match {
  readonly id: string;
  readonly distance: number;
  /** Greater is nearer. */
  readonly score: number;
  readonly embedding?: Embedding;
  readonly metadata?: unknown;
  readonly crdt?: unknown;
  readonly version?: Version | null;
}
export interface SearchAnswer {
  readonly matches: readonly Match[];
  readonly shardsSearched: number;
  readonly shardsTotal: number;
  readonly partial: boolean;
  readonly nodes: readonly string[];
}

// Jobs -----------------------------------------------------------------------------------------------------------------------------

export type JobState = 'waiting' | 'running' | 'done' | 'failed' | 'cancelled';
export interface JobProgress {
  readonly done: number;
  readonly total: number | null;
  readonly unit: string;
}
export interface StartedJob {
  readonly job: { readonly id: string; readonly state: JobState; readonly progress: JobProgress };
}
export interface AttachedTable extends StartedJob {
  readonly created: readonly string[];
  readonly warnings: readonly string[];
}
export interface Job {
  readonly id: string;
  readonly kind: string;
  readonly state: JobState;
  readonly progress: JobProgress;
  readonly home: string;
  readonly arguments: unknown;
  readonly cancelRequested?: true;
  readonly result?: unknown;
  readonly error?: { readonly code: string; readonly detail: string };
  readonly createdAt: string;
  readonly updatedAt: string;
}
export interface JobPage extends Page<Job> {
  /** Nodes whose jobs are not in the list. */
  readonly unreachable?: readonly string[];
}
