/** What one apply transaction does to one collection: lock, read, plan, write. The order of statements is the point: see transaction.pg.ts. */
import {
  keyText,
  type ConflictChange,
  type ConflictRecord,
  type DataChange,
  type RowImage,
} from '../changelog/change.ts';
import { recordToJson } from '../conflicts/record.ts';
import { PgquorumError } from '../errors/error.ts';
import { failpoint } from '../faults/failpoint.process.ts';
import { covers, type Clock } from '../versioning/clock.ts';
import { absentState, isOperation, noRequests, type KeyState, type Stamped } from '../versioning/merge.ts';
import { noHorizon } from '../versioning/purge.ts';
import { dotText, sameDot, type Dot } from '../versioning/version.ts';
import { int2Array, int8Array, jsonbArray, textArray, uuidArray } from '../postgres/binary-array.ts';
import { CollectionStatements } from './collection-statements.pg.ts';
import { furthest, requestsOf, type KeyWork, type Planned } from './key-work.ts';
import { LackingImages } from './lacking-images.pg.ts';
import { inOrder, readKeyOrder, type KeyOrder } from './key-order.pg.ts';
import { LocalStates, settled } from './local-states.pg.ts';
import { LoserRows } from './loser-rows.pg.ts';
import type { ApplyCounts } from './outcomes.ts';
import { isNothing, planKey, type ReceivedState, type RowSource } from './plan.ts';
import { RowWrites } from './row-writes.pg.ts';
import { checkHeld, checkPassed } from './shard-roles.ts';
import type { ApplySession } from './session.pg.ts';
import * as sql from './statements.ts';
import type { TargetTable } from './target-table.ts';
import { writeVersions } from './version-writes.pg.ts';

/** From so many keys on copying costs less than a prepared statement. */
const copiedMin = 16;

export class CollectionWork {
  private readonly statements: CollectionStatements;
  private readonly local: LocalStates;
  private readonly keys = new Map<string, KeyWork>();
  private readonly conflictChanges: ConflictChange[] = [];
  /** Shards that are not this node's. */
  private readonly passed: ReadonlySet<number>;
  private readonly passedCount: number;
  private readonly copying: boolean;
  private readonly copied: boolean;
  private readonly lacking: LackingImages;
  /** Null where nothing may be copied. */
  private order: KeyOrder | null = null;
  private writing: {
    readonly planned: readonly Planned[];
    readonly winners: readonly Planned[];
    readonly records: readonly ConflictRecord[];
  } = { planned: [], winners: [], records: [] };

  constructor(
    session: ApplySession,
    table: TargetTable,
    changes: readonly DataChange[],
    { copying, copied }: { readonly copying: boolean; readonly copied: boolean },
  ) {
    this.statements = new CollectionStatements(session, table);
    this.local = new LocalStates(this.statements);
    this.copying = copying && table.copyable;
    this.copied = copied;
    this.lacking = new LackingImages(this.statements);
    const { applied, passed } = session.roles.split(table.collection, changes);
    this.passed = passed;
    this.passedCount = changes.length - applied.length;
    for (const change of applied) {
      if (change.kind === 'conflict') {
        this.conflictChanges.push(change);
        continue;
      }
      if (change.row !== null) this.lacking.note(change.row.table); // drift is found before anything is locked
      const text = keyText(change.key);
      const known = this.keys.get(text);
      if (known === undefined)
        this.keys.set(text, { key: change.key, shard: change.shard, writes: [change] });
      else known.writes.push(change);
    }
  }

  /** Locks and reads what stands here. */
  async read(): Promise<void> {
    const ordered = this.copying && this.keys.size >= copiedMin;
    const [earlier, order] = await settled([
      this.local.read(
        this.keys,
        new Set([...this.passed, ...this.conflictChanges.map(({ shard }) => shard)]),
      ),
      ordered ? readKeyOrder(this.statements, [...this.keys.values()]) : Promise.resolve(null),
    ]);
    const { collection } = this.statements.table;
    checkPassed(collection, this.local.roles, this.passed);
    this.leaveEarlier(earlier);
    checkHeld(collection, this.local.roles, [...this.keys.values(), ...this.conflictChanges]);
    await this.local.check(this.keys);
    // Users' triggers may change what is written: only the other statements look for that.
    if (!this.local.userTriggers) this.order = order;
  }

  /** Drops what was written into an earlier collection of this name. */
  private leaveEarlier(earlier: Clock): void {
    for (const [text, work] of this.keys) {
      const writes = work.writes.filter((write) => !covers(earlier, write.version.dot));
      if (writes.length === 0) this.keys.delete(text);
      else work.writes.splice(0, Infinity, ...writes);
    }
    const conflicts = this.conflictChanges.filter(({ record }) => !covers(earlier, record.loser.dot));
    this.conflictChanges.splice(0, Infinity, ...conflicts);
  }

  private plan(): Planned[] {
    const planned: Planned[] = [];
    for (const [text, work] of this.keys) {
      const local = this.local.versions.get(text);
      const losers = (this.local.openLosers.get(text) ?? []).map((record): Stamped<RowSource> => ({
        version: record.loser,
        row: { kind: 'record', dot: record.loser.dot },
      }));
      const state: KeyState<RowSource> =
        local === undefined
          ? absentState // a record may come before the first write of its key
          : { winner: { version: local.version, row: { kind: 'local' } }, seen: local.seen, losers };
      const incoming = work.writes.map((write, at): ReceivedState => ({
        winner: { version: write.version, row: { kind: 'incoming', at } },
        seen: write.seen ?? write.version.clock,
        losers: write.losers.map((record) => ({
          version: record.loser,
          row: { kind: 'record', dot: record.loser.dot },
        })),
        requests: write.requests,
      }));
      const horizon = this.copied ? noHorizon : (this.local.horizons.get(work.shard) ?? noHorizon);
      const plan = planKey(state, incoming, this.local.requests.get(text) ?? noRequests, horizon);
      if (!isNothing(plan)) planned.push({ work, local, plan, horizon });
    }
    return this.order === null ? planned : inOrder(this.order, planned, ({ work }) => work.key);
  }

  /** Decides what is to be written, and reads what losers need. */
  async prepare(counts: ApplyCounts): Promise<void> {
    let planned = this.plan();
    const undone = planned.filter(({ plan }) => plan.newLosers.some((one) => isOperation(one.loser.version)));
    if (
      undone.length > 0 &&
      (await this.local.readRequestClocks(undone.map(({ work }) => keyText(work.key))))
    )
      planned = this.plan();
    const winners = planned.filter((one) => one.plan.winner !== null);
    counts.vanished += this.local.vanished;
    counts.written += winners.length;
    counts.skipped += this.passedCount + this.keys.size - winners.length;
    await this.lacking.check(winners);
    const records = await this.newRecords(planned);
    counts.conflicts += records.length;
    counts.found.push(...records);
    this.writing = { planned, winners, records };
  }

  /**
   * Sends every writing statement at once; one rejects with LocalWriteSlippedIn when a version was not what it was planned from. False when what is
   * answered has to be looked at before the transaction may be committed; else each statement fails by itself if it must not be.
   */
  send(sent: Promise<unknown>[]): boolean {
    const { planned, winners, records } = this.writing;
    const removes = this.writeRows(winners, sent);
    if (winners.length > 0) failpoint('apply-rows-written');
    writeVersions(this.statements, planned, sent, { copying: this.order !== null });
    if (planned.length > 0) failpoint('apply-versions-written');
    const merged = furthest([...records, ...this.conflictChanges.map((change) => change.record)]);
    if (merged.length > 0)
      sent.push(
        this.statements.session.run('conflicts', sql.upsertConflictsSql, [
          JSON.stringify(merged.map(recordToJson)),
          uuidArray(records.map(({ id }) => id)),
        ]),
      );
    this.supersede(planned, sent);
    this.rememberRequests(sent);
    return !removes && !this.local.userTriggers;
  }

  private async newRecords(planned: readonly Planned[]): Promise<ConflictRecord[]> {
    const losing = planned.filter(({ plan }) => plan.newLosers.length > 0 || plan.returned.length > 0);
    if (losing.length === 0) return [];
    return new LoserRows(this.statements.session, this.statements.table, losing).records();
  }

  /** Tells whether rows are removed. */
  private writeRows(winners: readonly Planned[], sent: Promise<unknown>[]): boolean {
    const rows = new RowWrites(this.statements, this.local.userTriggers);
    const gone = winners.filter(
      ({ work, plan }) => plan.winner!.version.deleted && this.local.present.has(keyText(work.key)),
    );
    if (gone.length > 0) sent.push(rows.remove(gone.map(({ work }) => work.key)));
    const images: RowImage[] = [];
    const fresh: RowImage[] = [];
    for (const { work, plan } of winners) {
      const { version, row } = plan.winner!;
      if (version.deleted) continue;
      // The winner is the greatest version ever merged, so it is never one that lost before.
      if (row.kind !== 'incoming')
        throw new PgquorumError('invariant_broken', `version ${dotText(version.dot)} wins without its row`);
      const absent = this.order !== null && !this.local.present.has(keyText(work.key));
      (absent ? fresh : images).push(work.writes[row.at]!.row!);
    }
    rows.copyAll(fresh, sent);
    rows.upsertAll(images, sent);
    return gone.length > 0;
  }

  private supersede(planned: readonly Planned[], sent: Promise<unknown>[]): void {
    for (const { work, plan, local } of planned) {
      const idsOf = (dots: readonly Dot[]): string[] =>
        (this.local.openLosers.get(keyText(work.key)) ?? [])
          .filter((record) => dots.some((dot) => sameDot(dot, record.loser.dot)))
          .map((record) => record.id);
      const withdrawn = idsOf(plan.withdrawn);
      if (withdrawn.length > 0)
        sent.push(this.statements.session.run('withdraw', sql.withdrawSql, [uuidArray(withdrawn)]));
      const ids = idsOf(plan.superseded);
      if (ids.length === 0) continue;
      const by = plan.winner?.version ?? local!.version;
      sent.push(
        this.statements.session.run('supersede', sql.supersedeSql, [
          uuidArray(ids),
          String(by.hlc),
          by.dot.origin,
        ]),
      );
    }
  }

  private rememberRequests(sent: Promise<unknown>[]): void {
    const heard = requestsOf([...this.keys.values()].flatMap((work) => work.writes));
    if (heard.length === 0) return;
    sent.push(
      this.statements.session.run('remember', sql.rememberRequestsSql, [
        this.statements.table.collection,
        textArray(heard.map((one) => one.key)),
        uuidArray(heard.map(({ write }) => write.request)),
        int2Array(heard.map(({ write }) => write.dot.origin)),
        int8Array(heard.map(({ write }) => write.dot.counter)),
        int8Array(heard.map(({ write }) => write.hlc)),
        jsonbArray(
          heard.map(({ write }) => (write.clock === undefined ? null : JSON.stringify(write.clock))),
        ),
      ]),
    );
  }
}
