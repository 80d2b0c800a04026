/** A conflict record as the API shows it. Pure. */
import type { Clock } from '../versioning/clock.ts';
import { versionText, versionView, type NameOfNode, type VersionView } from '../versioning/version-view.ts';
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
  };
  readonly decidedBy: string;
  readonly reason: string;
  readonly foundAt: string;
  /** When and where the state last advanced. */
  readonly stateHlc: string;
  readonly stateOrigin: string;
}

export interface StoredConflict {
  readonly record: ConflictJson;
  /** On the node that was asked. */
  readonly foundAt: string;
}

export function conflictView({ record, foundAt }: StoredConflict, nameOf: NameOfNode): ConflictView {
  const clock: Clock = record.loser_clock;
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
      text: versionText(record.winner_origin, record.winner_counter),
      origin: nameOf(record.winner_origin),
      counter: record.winner_counter,
      hlc: record.winner_hlc,
    },
    decidedBy: record.decided_by,
    reason: record.reason,
    foundAt,
    stateHlc: record.state_hlc,
    stateOrigin: nameOf(record.state_origin),
  };
}
