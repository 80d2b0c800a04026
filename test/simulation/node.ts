/**
 * A node with its tables in memory, around the production rules: what the triggers do (local-write.ts), what apply does (plan.ts), and how records
 * advance (conflicts/record.ts). What happens here in a method happens on a real node in a transaction.
 */
import { requestsOf } from '#core/apply/key-work.ts';
import { planKey, type KeyPlan, type ReceivedState, type RowSource } from '#core/apply/plan.ts';
import type { ConflictRecord, ConflictState } from '#core/changelog/change.ts';
import { advances } from '#core/conflicts/record.ts';
import { emptyClock, type Clock } from '#core/versioning/clock.ts';
import type { CrdtFields } from '#core/versioning/crdt/field.ts';
import type { Operations } from '#core/versioning/crdt/operation.ts';
import { isPurged, noHorizon, raiseHorizon, type PurgeHorizon } from '#core/versioning/purge.ts';
import { operateLocally, writeLocally } from '#core/versioning/local-write.ts';
import {
  absentState,
  versionsOf,
  isOperation,
  type KeyState,
  type RememberedRequest,
  type RequestWrite,
  type Stamped,
} from '#core/versioning/merge.ts';
import {
  dotText,
  sameDot,
  type Dot,
  type HlcValue,
  type NodeNumber,
  type ShardNumber,
  type Version,
} from '#core/versioning/version.ts';
import type { ConflictMessage, Fault, Message, Row, WriteMessage } from './message.ts';

export const fieldTypes: CrdtFields = { count: 'pn-counter', tags: 'or-set' };

const changeOf = ({ key, state, requests }: WriteMessage) => ({
  key: [key],
  version: state.winner!.version,
  losers: state.losers.map(({ version }) => ({ loser: version })),
  requests,
});

interface StoredVersion {
  readonly version: Version;
  readonly seen: Clock;
}

export class SimNode {
  readonly number: NodeNumber;
  readonly rows = new Map<string, string>();
  readonly versions = new Map<string, StoredVersion>();
  readonly records = new Map<string, Map<string, ConflictRecord>>();
  readonly requests = new Map<string, Map<string, RequestWrite[]>>();
  skewMs = 0;
  horizon: PurgeHorizon = noHorizon;
  #sequence = 0;
  readonly #faults: ReadonlySet<Fault>;

  constructor(number: number, faults: ReadonlySet<Fault>) {
    this.number = number as NodeNumber;
    this.#faults = faults;
  }

  recordsOf(key: string): Map<string, ConflictRecord> {
    let records = this.records.get(key);
    if (records === undefined) this.records.set(key, (records = new Map()));
    return records;
  }

  requestsOf(key: string): Map<string, RequestWrite[]> {
    let requests = this.requests.get(key);
    if (requests === undefined) this.requests.set(key, (requests = new Map()));
    return requests;
  }

  openRecords(key: string): ConflictRecord[] {
    return [...this.recordsOf(key).values()].filter((record) => record.state === 'open');
  }

  /** The counter of its last write. */
  get counter(): number {
    return this.#sequence;
  }

  #load(key: string): KeyState<RowSource> {
    const stored = this.versions.get(key);
    if (stored === undefined) return absentState;
    return {
      winner: { version: stored.version, row: { kind: 'local' } },
      seen: stored.seen,
      losers: this.openRecords(key).map((record) => ({
        version: record.loser,
        row: { kind: 'record', dot: record.loser.dot },
      })),
    };
  }

  /** The whole state of a key, as a re-read or a repair publishes it. */
  whole(key: string): KeyState<Row> {
    const stored = this.versions.get(key);
    if (stored === undefined) return absentState;
    const losers = this.openRecords(key).map((record) => ({ version: record.loser, row: record.row }));
    return {
      winner: { version: stored.version, row: this.rows.get(key) ?? null },
      seen: stored.seen,
      losers: this.#faults.has('whole-states-without-losers') ? [] : losers,
    };
  }

  /** One local write, as the triggers version it; `next` is the row, null to delete. The messages are what capture will find. */
  write(
    key: string,
    write: {
      readonly row: Row;
      readonly request: string | null;
      readonly now: HlcValue;
      readonly lives?: 'kept';
    },
  ): Message[] {
    const before = this.#load(key);
    this.#sequence += 1;
    const { state, superseded, sequence } = writeLocally<Row>(
      {
        winner: before.winner && { version: before.winner.version, row: null },
        seen: before.seen,
        losers: before.losers.map(({ version }) => ({ version, row: null })),
      },
      {
        node: this.number,
        now: write.now,
        drawn: this.#sequence,
        deleted: write.row === null,
        row: write.row,
        request: write.request,
        lives: write.lives ?? 'new',
        purgeHorizon: this.horizon.hlc,
      },
    );
    this.#sequence = sequence;
    this.#store(key, state.winner.version, state.seen, write.row);
    const { version } = state.winner;
    if (version.request !== null) this.#hear(key, { ...version, request: version.request });
    const advanced = this.#faults.has('losers-stay-open')
      ? []
      : superseded.map((dot) => this.advance(key, dot, 'superseded', write.now));
    return [
      {
        kind: 'write',
        key,
        state: { winner: state.winner, seen: state.winner.version.clock, losers: [] },
        requests: [],
      },
      ...(this.#faults.has('advances-unpublished') ? [] : advanced),
    ];
  }

  /** Operations on the fields of a living row; null where none is. */
  operate(
    key: string,
    operations: Operations,
    now: HlcValue,
  ): { readonly dot: Dot; readonly message: Message } | null {
    const before = this.versions.get(key);
    if (before === undefined) return null;
    this.#sequence += 1;
    const done = operateLocally<Row>(
      { winner: { version: before.version, row: null }, seen: before.seen, losers: [] },
      { node: this.number, now, drawn: this.#sequence, fields: fieldTypes, operations, request: null },
    );
    if (done === null) return null;
    this.#sequence = done.sequence;
    this.versions.set(key, { version: done.state.winner!.version, seen: done.state.seen });
    return {
      dot: done.dot,
      message: { kind: 'write', key, state: this.whole(key), requests: [], operation: true },
    };
  }

  /** Writes the row of a record again. What it replaces becomes a record itself. */
  restore(key: string, record: ConflictRecord, now: HlcValue): Message[] {
    const old = this.versions.get(key)?.version ?? null;
    const replaced = this.rows.get(key) ?? null;
    const messages = this.write(key, { row: record.row, request: null, now, lives: 'kept' }).filter(
      (message) => message.kind === 'write' || !sameDot(message.record.loser.dot, record.loser.dot),
    );
    if (old === null) return [...messages, this.advance(key, record.loser.dot, 'restored', now)];
    const id = dotText(old.dot);
    // Closed from the start: the restoring write has seen it.
    if (!this.recordsOf(key).has(id)) {
      const kept: ConflictRecord = {
        ...this.#recordOf(key, {
          kind: 'replaced',
          loser: old,
          winner: this.versions.get(key)!.version,
          row: replaced,
        }),
        state: 'superseded',
        stateHlc: now,
        stateOrigin: this.number,
      };
      this.recordsOf(key).set(id, kept);
      messages.push({ kind: 'conflict', key, record: kept });
    }
    return [...messages, this.advance(key, record.loser.dot, 'restored', now)];
  }

  /** Writes a version that dominates all that is open, and closes the records for good. */
  resolve(key: string, now: HlcValue): Message[] {
    const dots = this.openRecords(key).map(({ loser }) => loser.dot);
    const row = this.rows.get(key) ?? `resolved at ${this.number}`;
    const written = this.write(key, { row, request: null, now, lives: 'kept' });
    return [
      ...written.filter((message) => message.kind === 'write'),
      ...dots.map((dot) => this.advance(key, dot, 'resolved', now)),
    ];
  }

  advance(key: string, dot: Dot, state: ConflictState, now: HlcValue): ConflictMessage {
    const old = this.recordsOf(key).get(dotText(dot))!;
    const record: ConflictRecord = { ...old, state, stateHlc: now, stateOrigin: this.number };
    this.#keep(key, record);
    return { kind: 'conflict', key, record };
  }

  raise(clock: Clock): void {
    this.horizon = raiseHorizon(
      this.horizon,
      clock,
      [...this.versions.keys()].map((key) => this.#load(key)),
    );
  }

  /** Deletes the tombstones that count no more; gives their keys. */
  purge(clock: Clock): string[] {
    const gone = [...this.versions.keys()].filter((key) => isPurged(this.#load(key), { clock }));
    for (const key of gone) this.versions.delete(key);
    return gone;
  }

  isWinner(key: string, dot: Dot): boolean {
    const stored = this.versions.get(key);
    return stored !== undefined && sameDot(stored.version.dot, dot);
  }

  isPurged(key: string): boolean {
    return isPurged(this.#load(key), this.horizon);
  }

  /** One apply transaction. Gives what it publishes itself. */
  apply(messages: readonly Message[]): Message[] {
    const published: Message[] = [];
    const byKey = Map.groupBy(messages, (message) => message.key);
    for (const [key, list] of byKey) {
      const writes = list.filter((message) => message.kind === 'write');
      const incoming = writes.map(({ state, requests }, at): ReceivedState => {
        const from = (one: Stamped<Row>): Stamped<RowSource> => ({
          version: one.version,
          row: { kind: 'incoming', at },
        });
        return {
          winner: state.winner && from(state.winner),
          seen: state.seen,
          losers: state.losers.map(from),
          requests: this.#faults.has('requests-forgotten') ? [] : requests,
        };
      });
      const heard = this.#faults.has('requests-forgotten') ? [] : requestsOf(writes.map(changeOf));
      if (incoming.length > 0)
        published.push(...this.#carryOut(key, this.#plan(key, incoming, heard), writes));
      for (const { write } of heard) this.#hear(key, write);
      for (const message of list) if (message.kind === 'conflict') this.#keep(key, message.record);
    }
    return published;
  }

  /** As the transaction asks its tables: for the requests of what came in, and for what all writes had seen only where an operation seems undone. */
  #plan(
    key: string,
    incoming: readonly ReceivedState[],
    heard: readonly { readonly write: RememberedRequest }[],
  ): KeyPlan {
    const horizon = this.#faults.has('horizon-ignored') ? noHorizon : this.horizon;
    const all = this.requestsOf(key);
    const named = new Set(heard.map(({ write }) => write.request));
    const known = new Map([...all].filter(([request]) => named.has(request)));
    const plan = planKey(this.#load(key), incoming, known, horizon);
    return plan.newLosers.some(({ loser }) => isOperation(loser.version))
      ? planKey(this.#load(key), incoming, all, horizon)
      : plan;
  }

  #carryOut(key: string, plan: KeyPlan, writes: readonly WriteMessage[]): Message[] {
    const rowOf = ({ version, row }: Stamped<RowSource>): Row => {
      if (row.kind === 'local') return this.rows.get(key) ?? null;
      if (row.kind === 'record') return this.recordsOf(key).get(dotText(row.dot))!.row;
      const { state } = writes[row.at]!;
      // An operation that was undone goes with the row that it was done to.
      return (versionsOf(state).find((one) => sameDot(one.version.dot, version.dot)) ?? state.winner!).row;
    };
    const found = plan.newLosers.map((one) =>
      this.#recordOf(key, {
        kind: one.kind,
        loser: one.loser.version,
        winner: one.winner,
        row: rowOf(one.loser),
      }),
    );
    const row = plan.winner === null ? null : rowOf(plan.winner);
    const old = this.versions.get(key);
    if (plan.winner !== null)
      this.#store(key, plan.winner.version, plan.seen ?? old?.seen ?? emptyClock, row);
    else if (plan.seen !== null || plan.crdt !== undefined)
      this.versions.set(key, {
        version: plan.crdt === undefined ? old!.version : { ...old!.version, crdt: plan.crdt },
        seen: plan.seen ?? old!.seen,
      });
    for (const record of found) this.#keep(key, record);
    for (const dot of plan.withdrawn) this.recordsOf(key).delete(dotText(dot));
    for (const dot of plan.superseded) {
      const record = this.recordsOf(key).get(dotText(dot))!;
      this.#keep(key, { ...record, state: 'superseded' });
    }
    return plan.returned.map((one) => this.#keepReturned(key, one.version, rowOf(one)));
  }

  /** What came again after it had been purged, in a closed record that is published: others are not sent it. */
  #keepReturned(key: string, loser: Version, row: Row): Message {
    const winner: Version = { ...loser, hlc: this.horizon.hlc };
    const record: ConflictRecord = {
      ...this.#recordOf(key, { kind: 'returned', loser, winner, row }),
      state: 'superseded',
    };
    this.#keep(key, record);
    return { kind: 'conflict', key, record };
  }

  #store(key: string, version: Version, seen: Clock, row: Row): void {
    this.versions.set(key, { version, seen });
    if (row === null) this.rows.delete(key);
    else this.rows.set(key, row);
  }

  #hear(key: string, { request, dot, hlc, clock }: RememberedRequest): void {
    const writes = this.requestsOf(key).get(request) ?? [];
    if (!writes.some((one) => sameDot(one.dot, dot)))
      this.requestsOf(key).set(request, [...writes, { dot, hlc, clock }]);
  }

  /** What a copy tells of requests. */
  remembered(key: string): RememberedRequest[] {
    if (this.#faults.has('requests-lost-by-copy')) return [];
    return [...this.requestsOf(key)].flatMap(([request, writes]) =>
      writes.map((write) => ({ request, ...write })),
    );
  }

  #keep(key: string, record: ConflictRecord): void {
    const id = dotText(record.loser.dot);
    const old = this.recordsOf(key).get(id);
    if (old === undefined || advances(record, old)) this.recordsOf(key).set(id, record);
  }

  #recordOf(
    key: string,
    found: {
      readonly kind: ConflictRecord['kind'];
      readonly loser: Version;
      readonly winner: Version;
      readonly row: Row;
    },
  ): ConflictRecord {
    return {
      id: `${key} ${dotText(found.loser.dot)}`,
      collection: 'simulated',
      key: [key],
      shard: 0 as ShardNumber,
      kind: found.kind,
      loser: found.loser,
      row: found.row,
      winner: { dot: found.winner.dot, hlc: found.winner.hlc },
      state: 'open',
      stateHlc: found.winner.hlc,
      stateOrigin: found.winner.dot.origin,
      decidedBy: 'lww',
      reason: 'concurrent',
    };
  }
}
