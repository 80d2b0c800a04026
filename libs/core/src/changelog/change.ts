/**
 * A change: one write of one key with its version and row, as capture makes it and apply takes it, whatever log carries it. Pure types.
 *
 * Values of columns stay in Postgres's binary format from the origin's WAL to the target's statement: nothing is parsed that nobody reads.
 */
import type { Clock } from '../versioning/clock.ts';
import type { ConflictKind, RememberedRequest } from '../versioning/merge.ts';
import type { Dot, HlcValue, NodeNumber, ShardNumber, Version } from '../versioning/version.ts';

export interface ColumnImage {
  readonly name: string;
  /** Name of the type without its schema (`text`, `vector`, `jsonb`): extensions may live in different schemas on different nodes. */
  readonly type: string;
  readonly isKey: boolean;
}

/** Shared by all rows of one table until its definition changes. */
export interface TableImage {
  readonly collection: string;
  readonly columns: readonly ColumnImage[];
}

export interface RowImage {
  readonly table: TableImage;
  /** In the order of `table.columns`; binary format of the column's type; null = SQL null. */
  readonly values: readonly (Buffer | null)[];
}

/** Canonical texts of the key columns, in key order. */
export type KeyTexts = readonly string[];

/** A key as one text: itself when single, else the JSON array of its texts. Used for hashing, Kafka keys, routes and records. */
export const keyText = (key: KeyTexts): string => (key.length === 1 ? key[0]! : JSON.stringify(key));

export type ConflictState = 'open' | 'superseded' | 'resolved' | 'restored';

/** One concurrent write that lost. Replicated as a set keyed by (collection, key, loser's dot); its state only advances. */
export interface ConflictRecord {
  /** Derived from (collection, key, loser's dot): the same on every node. */
  readonly id: string;
  readonly collection: string;
  readonly key: KeyTexts;
  readonly shard: ShardNumber;
  readonly kind: ConflictKind | 'returned' | 'replaced';
  readonly loser: Version;
  /** The losing row as JSON text: column name -> Postgres text form or null. Null for a losing delete. */
  readonly row: string | null;
  /** Dot and hlc of the version that won when the conflict was found. */
  readonly winner: { readonly dot: Dot; readonly hlc: HlcValue };
  readonly state: ConflictState;
  /** When and where the state was last advanced; decides between two last states. */
  readonly stateHlc: HlcValue;
  readonly stateOrigin: NodeNumber;
  /** Who decided, e.g. `lww`, and why. */
  readonly decidedBy: string;
  readonly reason: string;
}

export interface WriteChange {
  readonly kind: 'write';
  readonly collection: string;
  readonly key: KeyTexts;
  readonly shard: ShardNumber;
  readonly version: Version;
  /** Null for a tombstone. */
  readonly row: RowImage | null;
  /** Null when equal to the version's clock, as for every delta; set for whole states that were re-read. */
  readonly seen: Clock | null;
  /** Open losers of a whole state; empty for deltas. */
  readonly losers: readonly ConflictRecord[];
  /**
   * Of whole states: gateway requests of writes that were overwritten since. A re-read tells of the write that it was made for, a copy of all that its source
   * remembers: without them a repeat of the request on another master would stay open as a conflict where only the state has come. Empty for deltas.
   */
  readonly requests: readonly RememberedRequest[];
}

export interface ConflictChange {
  readonly kind: 'conflict';
  readonly collection: string;
  readonly key: KeyTexts;
  readonly shard: ShardNumber;
  readonly record: ConflictRecord;
}

/** A sign of life of the origin: lets an idle edge show its true lag. */
export interface HeartbeatChange {
  readonly kind: 'heartbeat';
}

export type Change = WriteChange | ConflictChange | HeartbeatChange;
export type DataChange = WriteChange | ConflictChange;

/** What a change takes in memory, near enough for budgets. */
export const changeBytes = (change: DataChange): number =>
  change.kind === 'write' && change.row !== null
    ? change.row.values.reduce((sum, value) => sum + (value?.length ?? 0), 200)
    : 200;

/** A position in one stream of a log: an LSN for the WAL, an offset for Kafka. Only grows along a stream. */
export type Position = bigint;

/** The changes of one transaction of the origin, or a part of a large one, in commit order. */
export interface LogBatch {
  readonly origin: NodeNumber;
  /** Part of the log with an order of its own: 0 for the WAL, the partition for Kafka. */
  readonly stream: number;
  readonly changes: readonly Change[];
  /** Holding everything up to here means that this batch and all before it on the stream are held. Null for all but the last part of a large transaction. */
  readonly position: Position | null;
  /** Commit time at the origin, ms since 1970. */
  readonly commitTimeMs: number;
  /** Commit LSN at the origin. */
  readonly commitLsn: bigint;
  /** Bytes of rows held, for budgets and limits. */
  readonly bytes: number;
}
