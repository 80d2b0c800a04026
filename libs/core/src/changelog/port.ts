/**
 * The change log of one origin, as a seam with three implementations: the WAL of the origin (wal.ts), Kafka (topic.kafka.ts) and memory
 * (memory.ts, for simulation). test/contract/change-log.ts is this contract as a suite; every implementation passes it.
 */
import type { NodeNumber } from '../versioning/version.ts';
import type { LogBatch, Position } from './change.ts';

/** Stream -> position up to which (inclusive) everything is held. A stream that is missing starts at its beginning, which the log must still hold. */
export type Positions = ReadonlyMap<number, Position>;

/** Stream -> what the log still holds: resuming needs a position of at least `first`; `end` is the newest. */
export type HeldPositions = ReadonlyMap<number, { readonly first: Position; readonly end: Position }>;

export interface ChangeLogReader {
  readonly origin: NodeNumber;
  /**
   * Batches after `from`, at least once. Order: along a stream by position; one key is always on one stream, so per key in commit order.
   * A batch may come again after a crash of either side, never may one be left out: where the log no longer holds what follows `from`, this
   * throws `position_lost` and yields nothing. Ends when `signal` aborts. One reading at a time; the consumer's pace is the reader's
   * (a bounded number of bytes is held ahead of it). A crash half-way loses nothing: what was not confirmed is delivered again.
   */
  read(options: { from: Positions; signal: AbortSignal }): AsyncIterable<LogBatch>;
  /** The consumer holds everything of `stream` up to `position` durably; the log may forget it. May be called often, and late. */
  confirm(stream: number, position: Position): void;
  positions(): Promise<HeldPositions>;
  close(): Promise<void>;
}

export interface ChangeLogWriter {
  /**
   * Resolves when every batch is durable in the log, in the order given; calls may overlap. After a rejection any part of them may be there, and the
   * writer is finished, since what comes later must not be in the log earlier: append them again through a new one.
   */
  append(batches: readonly LogBatch[]): Promise<void>;
  positions(): Promise<HeldPositions>;
  close(): Promise<void>;
}
