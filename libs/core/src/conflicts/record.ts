/**
 * Conflict records between their table, the WAL and memory. Bigints are texts in JSON: a JSON number would lose their last digits. Pure.
 */
import type { ConflictRecord, ConflictState } from '../changelog/change.ts';
import { keyText } from '../changelog/change.ts';
import type { Clock } from '../versioning/clock.ts';
import type { CrdtState } from '../versioning/crdt/state.ts';
import type { Epoch, HlcValue, NodeNumber, ShardNumber } from '../versioning/version.ts';

/** A record as JSON: column name of pgquorum.conflict -> value, bigints as text. */
export interface ConflictJson {
  id: string;
  collection: string;
  key: string;
  key_texts: string[];
  shard: number;
  kind: ConflictRecord['kind'];
  loser_rank: number;
  loser_epoch: string;
  loser_hlc: string;
  loser_origin: number;
  loser_counter: string;
  loser_clock: Clock;
  loser_deleted: boolean;
  loser_request: string | null;
  loser_crdt: unknown;
  loser_row: unknown;
  winner_hlc: string;
  winner_origin: number;
  winner_counter: string;
  state: ConflictState;
  state_hlc: string;
  state_origin: number;
  decided_by: string;
  reason: string;
}

const plainColumns = [
  'id',
  'collection',
  'key',
  'key_texts',
  'shard',
  'kind',
  'loser_rank',
  'loser_origin',
  'loser_clock',
  'loser_deleted',
  'loser_request',
  'loser_crdt',
  'loser_row',
  'winner_origin',
  'state',
  'state_origin',
  'decided_by',
  'reason',
] as const;
const bigintColumns = [
  'loser_epoch',
  'loser_hlc',
  'loser_counter',
  'winner_hlc',
  'winner_counter',
  'state_hlc',
] as const;
export const conflictColumns: readonly string[] = [...plainColumns, ...bigintColumns];

/** SQL that makes a ConflictJson of a row of pgquorum.conflict. */
export const conflictJsonSql = (alias: string): string =>
  `jsonb_build_object(${[...plainColumns.map((name) => `'${name}', ${alias}.${name}`), ...bigintColumns.map((name) => `'${name}', ${alias}.${name}::text`)].join(', ')})`;

/** The same with the columns that its table may have got since (complete-records.pg.ts), for whoever writes the row. */
export const completedRecordSql = (alias: string): string =>
  `${conflictJsonSql(alias)} || jsonb_build_object('loser_row', pgquorum.completed_row(${alias}.collection, ${alias}.loser_row))`;

/** How far a record is. */
export type RecordState = {
  readonly state: ConflictState;
  readonly stateHlc: bigint;
  readonly stateOrigin: number;
};

const stateRank: Readonly<Record<ConflictState, number>> = {
  open: 0,
  superseded: 1,
  resolved: 2,
  restored: 2,
};

/** SQL condition under which the row `new` advances the row `old`: by state, and of two last states the greater (hlc, origin). */
export const advancesSql = (next: string, old: string): string => {
  const rank = (alias: string) =>
    `(case ${alias}.state when 'open' then 0 when 'superseded' then 1 else 2 end)`;
  return `(${rank(next)} > ${rank(old)} or (${rank(next)} = 2 and ${rank(old)} = 2 and (${next}.state_hlc, ${next}.state_origin) > (${old}.state_hlc, ${old}.state_origin)))`;
};

/** The same rule in memory. */
export function advances(next: RecordState, old: RecordState): boolean {
  const difference = stateRank[next.state] - stateRank[old.state];
  if (difference !== 0) return difference > 0;
  if (stateRank[next.state] < 2) return false;
  return (
    next.stateHlc > old.stateHlc || (next.stateHlc === old.stateHlc && next.stateOrigin > old.stateOrigin)
  );
}

export function recordFromJson(json: ConflictJson): ConflictRecord {
  return {
    id: json.id,
    collection: json.collection,
    key: json.key_texts,
    shard: json.shard as ShardNumber,
    kind: json.kind,
    loser: {
      rank: json.loser_rank,
      epoch: BigInt(json.loser_epoch) as Epoch,
      hlc: BigInt(json.loser_hlc) as HlcValue,
      dot: { origin: json.loser_origin as NodeNumber, counter: Number(json.loser_counter) },
      clock: json.loser_clock,
      deleted: json.loser_deleted,
      request: json.loser_request,
      crdt: (json.loser_crdt ?? null) as CrdtState,
    },
    row: json.loser_row === null ? null : JSON.stringify(json.loser_row),
    winner: {
      dot: { origin: json.winner_origin as NodeNumber, counter: Number(json.winner_counter) },
      hlc: BigInt(json.winner_hlc) as HlcValue,
    },
    state: json.state,
    stateHlc: BigInt(json.state_hlc) as HlcValue,
    stateOrigin: json.state_origin as NodeNumber,
    decidedBy: json.decided_by,
    reason: json.reason,
  };
}

export function recordToJson(record: ConflictRecord): ConflictJson {
  return {
    id: record.id,
    collection: record.collection,
    key: keyText(record.key),
    key_texts: [...record.key],
    shard: record.shard,
    kind: record.kind,
    loser_rank: record.loser.rank,
    loser_epoch: String(record.loser.epoch),
    loser_hlc: String(record.loser.hlc),
    loser_origin: record.loser.dot.origin,
    loser_counter: String(record.loser.dot.counter),
    loser_clock: record.loser.clock,
    loser_deleted: record.loser.deleted,
    loser_request: record.loser.request,
    loser_crdt: record.loser.crdt ?? null,
    loser_row: record.row === null ? null : (JSON.parse(record.row) as unknown),
    winner_hlc: String(record.winner.hlc),
    winner_origin: record.winner.dot.origin,
    winner_counter: String(record.winner.dot.counter),
    state: record.state,
    state_hlc: String(record.stateHlc),
    state_origin: record.stateOrigin,
    decided_by: record.decidedBy,
    reason: record.reason,
  };
}
