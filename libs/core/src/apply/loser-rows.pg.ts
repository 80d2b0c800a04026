/** Finds the rows of the losers of a batch, wherever they are, and makes their conflict records. Conflicts are rare: clarity before speed. */
import { keyText, type ConflictRecord, type RowImage, type WriteChange } from '../changelog/change.ts';
import { hlcFromMs } from '../versioning/hlc.ts';
import { conflictId } from '../versioning/conflict-id.ts';
import type { Stamped } from '../versioning/merge.ts';
import type { PurgeHorizon } from '../versioning/purge.ts';
import { dotText, sameDot, type Dot, type NodeNumber, type ShardNumber } from '../versioning/version.ts';
import { arrayOf, textArray } from '../postgres/binary-array.ts';
import type { KeyPlan, NewLoser, RowSource } from './plan.ts';
import type { ApplySession } from './session.pg.ts';
import { incomingJsonSql, localJsonSql, rowJsonSql } from './statements.ts';
import { matchColumns, valuesFor } from './target.pg.ts';
import type { TargetTable } from './target-table.ts';

interface Losing {
  readonly work: {
    readonly key: readonly string[];
    readonly shard: number;
    readonly writes: readonly WriteChange[];
  };
  readonly plan: KeyPlan;
  readonly horizon: PurgeHorizon;
}

export class LoserRows {
  private readonly session: ApplySession;
  private readonly table: TargetTable;
  private readonly losing: readonly Losing[];

  constructor(session: ApplySession, table: TargetTable, losing: readonly Losing[]) {
    this.session = session;
    this.table = table;
    this.losing = losing;
  }

  async records(): Promise<ConflictRecord[]> {
    const local = await this.localRows();
    const records: ConflictRecord[] = [];
    for (const losing of this.losing) {
      const { work, plan } = losing;
      for (const one of plan.newLosers) {
        const carried = this.carried(work.writes, one.loser.version.dot);
        const row =
          carried !== null
            ? carried.row
            : one.loser.version.deleted
              ? null
              : await this.row(work, one.loser, local);
        records.push(this.record(work, plan, one, row));
      }
      for (const one of plan.returned) {
        const carried = this.carried(work.writes, one.version.dot);
        const row = carried !== null ? carried.row : await this.row(work, one, local);
        records.push(this.returned(losing, one, row));
      }
    }
    return records;
  }

  /** A record that came with a whole state. */
  private carried(writes: readonly WriteChange[], dot: Dot): ConflictRecord | null {
    for (const write of writes)
      for (const record of write.losers) if (sameDot(record.loser.dot, dot)) return record;
    return null;
  }

  private async row(
    work: Losing['work'],
    one: Stamped<RowSource>,
    local: ReadonlyMap<string, string>,
  ): Promise<string> {
    const source = one.row;
    const found =
      source.kind === 'incoming'
        ? await this.incomingRow(work.writes[source.at]!.row!)
        : local.get(keyText(work.key));
    if (found === undefined)
      throw new Error(`the row of losing version ${dotText(one.version.dot)} is not at hand`);
    return found;
  }

  private async incomingRow(row: RowImage): Promise<string> {
    const columns = matchColumns(this.table, row.table);
    // A column that is an array has no array of arrays: its value goes as the one element of a row of parameters.
    const text = columns.some((column) => column.isArray)
      ? `select (${rowJsonSql(columns, (column, at) => `$${at + 1}::${column.sqlType}`)})::text as row`
      : incomingJsonSql(columns);
    const given = valuesFor(columns, row);
    const values = columns.some((column) => column.isArray)
      ? given
      : columns.map((column, at) => arrayOf(column.typeOid, [given[at]!]));
    const result = await this.session.client.query<{ row: string }>(text, values);
    return result.rows[0]!.row;
  }

  private async localRows(): Promise<Map<string, string>> {
    const wanted = this.losing.filter(({ plan }) =>
      plan.newLosers.some((one) => one.loser.row.kind === 'local' && !one.loser.version.deleted),
    );
    if (wanted.length === 0) return new Map();
    const width = this.table.key.length;
    const result = await this.session.client.query<string[]>({
      text: localJsonSql(this.table),
      values: this.table.key.map((_, at) => textArray(wanted.map(({ work }) => work.key[at]!))),
      rowMode: 'array',
    });
    return new Map(result.rows.map((row) => [keyText(row.slice(0, width)), row[width]!]));
  }

  private record(work: Losing['work'], plan: KeyPlan, one: NewLoser, row: string | null): ConflictRecord {
    const { version } = one.loser;
    const superseded = plan.superseded.some((dot) => sameDot(dot, version.dot));
    return {
      id: conflictId(this.table.collection, keyText(work.key), version.dot),
      collection: this.table.collection,
      key: work.key,
      shard: work.shard as ShardNumber,
      kind: one.kind,
      loser: version,
      row,
      winner: { dot: one.winner.dot, hlc: one.winner.hlc },
      state: superseded ? 'superseded' : 'open',
      stateHlc: one.winner.hlc,
      stateOrigin: one.winner.dot.origin,
      decidedBy: 'lww',
      reason: `${dotText(one.winner.dot)} is greater by rank, epoch, time, node and counter`,
    };
  }

  /** What it lost to is gone: the horizon stands for it. That had seen it, so the record is closed from the start. */
  private returned(
    { work, horizon }: Losing,
    { version }: Stamped<RowSource>,
    row: string | null,
  ): ConflictRecord {
    return {
      id: conflictId(this.table.collection, keyText(work.key), version.dot),
      collection: this.table.collection,
      key: work.key,
      shard: work.shard as ShardNumber,
      kind: 'returned',
      loser: version,
      row,
      winner: {
        dot: { origin: version.dot.origin, counter: horizon.clock[version.dot.origin as number]! },
        hlc: horizon.hlc,
      },
      state: 'superseded',
      stateHlc: hlcFromMs(Date.now()),
      stateOrigin: this.session.localNumber as NodeNumber,
      decidedBy: 'purge',
      reason: `${dotText(version.dot)} came again after it had been purged with its key`,
    };
  }
}
