/** A conflict record as the API shows it. Pure. */
import type { Clock } from '../versioning/clock.ts';
import { clockView, versionText, versionView } from '../versioning/version-view.ts';
import type { NameOfNode, VersionColumns, VersionView } from '../versioning/version-view.ts';
import type { ConflictJson } from './record.ts';

export interface ConflictView {
  readonly id: string;
  readonly collection: string;
  readonly key: string;
  readonly shard: number;
  readonly kind: string;
  readonly state: string;
  readonly loser: {
    readonly version: VersionView;
    readonly deleted: boolean;
    /** Column name -> Postgres text form; null for a losing delete. */
    readonly row: unknown;
  };
  /** What won when the conflict was found. */
  readonly winner: {
    readonly text: string;
    readonly origin: string;
    readonly counter: string;
    readonly hlc: string;
    /** Known while it is the key's version still. */
    readonly clock: VersionView['clock'];
  };
  /** What the key is now; null when the node that was asked has never seen it. */
  readonly current: { readonly version: VersionView; readonly deleted: boolean } | null;
  /** The losing row equals the current one, or lies within the collection's `cosineTolerance` of it; null when there is nothing to compare with. */
  readonly noise: boolean | null;
  readonly decidedBy: string;
  readonly reason: string;
  /** Why the collection's resolver has not resolved it: the last try; null when there was none that failed. */
  readonly attempt: AttemptView | null;
  readonly foundAt: string;
  /** When and where the state last advanced. */
  readonly stateAt: string;
  readonly stateHlc: string;
  readonly stateOrigin: string;
}

export interface StoredConflict {
  readonly record: ConflictJson;
  /** On the node that was asked. */
  readonly foundAt: string;
}

export interface CurrentVersion extends VersionColumns {
  readonly deleted: boolean;
}

export interface Comparison {
  readonly noise: boolean | null;
  readonly current: CurrentVersion | null;
}

/** What a custom resolver could not do, and where. */
export interface AttemptView {
  readonly at: string;
  readonly resolver: string;
  readonly version: string | null;
  readonly error: string;
  readonly tries: number;
  readonly node: string;
}

export interface Attempted {
  readonly attempt: AttemptView | null;
}

/** The wall clock's part of a hybrid logical clock. */
const timeOf = (hlc: string): string => new Date(Number(BigInt(hlc) >> 16n)).toISOString();

export function conflictView(
  { record, foundAt, noise, current, attempt }: StoredConflict & Comparison & Attempted,
  nameOf: NameOfNode,
): ConflictView {
  const clock: Clock = record.loser_clock;
  const winner = versionText(record.winner_origin, record.winner_counter);
  const stands = current !== null && versionText(current.origin, current.counter) === winner;
  return {
    id: record.id,
    collection: record.collection,
    key: record.key,
    shard: record.shard,
    kind: record.kind,
    state: record.state,
    loser: {
      version: versionView(
        { hlc: record.loser_hlc, origin: record.loser_origin, counter: record.loser_counter, clock },
        nameOf,
      ),
      deleted: record.loser_deleted,
      row: record.loser_row,
    },
    winner: {
      text: winner,
      origin: nameOf(record.winner_origin),
      counter: record.winner_counter,
      hlc: record.winner_hlc,
      clock: stands ? clockView(current.clock) : null,
    },
    current: current === null ? null : { version: versionView(current, nameOf), deleted: current.deleted },
    noise,
    decidedBy: record.decided_by,
    reason: record.reason,
    attempt,
    foundAt,
    stateAt: timeOf(record.state_hlc),
    stateHlc: record.state_hlc,
    stateOrigin: nameOf(record.state_origin),
  };
}
