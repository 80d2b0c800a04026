/** What simulated nodes send each other, and ways to break the system around the production code, to see that the checks notice. */
import type { ConflictRecord } from '#core/changelog/change.ts';
import type { KeyState, RememberedRequest } from '#core/versioning/merge.ts';

export type Fault =
  | 'whole-states-without-losers'
  | 'losers-stay-open'
  | 'advances-unpublished'
  | 'requests-forgotten'
  | 'request-lost-by-reread'
  | 'requests-lost-by-copy'
  | 'message-lost'
  | 'tombstones-deleted-before-all-agree'
  | 'horizon-ignored';

export type Row = string | null;
export interface WriteMessage {
  readonly kind: 'write';
  readonly key: string;
  readonly state: KeyState<Row>;
  /** Of writes that are not in the state. */
  readonly requests: readonly RememberedRequest[];
  /** An operation: no version, so only the whole state tells of it. */
  readonly operation?: true;
}
export interface ConflictMessage {
  readonly kind: 'conflict';
  readonly key: string;
  readonly record: ConflictRecord;
}
export type Message = WriteMessage | ConflictMessage;
