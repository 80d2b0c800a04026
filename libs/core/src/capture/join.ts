/**
 * Joins what one transaction of the origin says about each key: its last row and its last version. Pure but for its own state.
 *
 * Invariant: a change leaves this place only with a row and a version that belong together. What can not be joined (a TOASTed value that did
 * not change, rows dropped because the transaction is too large) is handed out as a key to re-read, never mixed.
 * Held bytes are bounded by `bytesMax`; beyond it rows are dropped, and keys are handed out in chunks while the transaction still goes on.
 */
import {
  keyText,
  type ConflictRecord,
  type ConflictState,
  type DataChange,
  type KeyTexts,
  type RowImage,
  type TableImage,
  type WriteChange,
} from '../changelog/change.ts';
import { recordFromJson, type ConflictJson } from '../conflicts/record.ts';
import type { Clock } from '../versioning/clock.ts';
import type { CrdtState } from '../versioning/crdt/state.ts';
import type { Epoch, HlcValue, NodeNumber, ShardNumber, Version } from '../versioning/version.ts';
import { unchanged, type Tuple } from './pgoutput.ts';
import { readClock, readJsonbText, readKeyText, readUuid } from './values.ts';

/** What a published relation is to us, with the columns that the join reads. */
export type RelationRole =
  | { readonly kind: 'rows'; readonly table: TableImage; readonly keyAt: readonly number[] }
  | {
      readonly kind: 'versions';
      readonly collection: string;
      readonly table: TableImage;
      readonly keyAt: readonly number[];
      readonly at: Readonly<Record<string, number>>;
    }
  | { readonly kind: 'conflicts'; readonly table: TableImage; readonly at: Readonly<Record<string, number>> }
  | { readonly kind: 'heartbeat' }
  | { readonly kind: 'other' };

export interface Reread {
  readonly collection: string;
  readonly key: KeyTexts;
  readonly version: Version;
  /** What the key had seen at least; null = what its version's clock says. */
  readonly seen: Clock | null;
}

/** A conflict record and the state that the WAL says it has reached. */
export interface ConflictMark {
  readonly id: string;
  readonly state: ConflictState;
  readonly stateHlc: bigint;
  readonly stateOrigin: number;
}

export interface Joined {
  readonly changes: DataChange[];
  readonly reread: Reread[];
  /** Conflict records to re-read, at least as far as this. */
  readonly rereadConflicts: ConflictMark[];
  readonly heartbeat: boolean;
  readonly bytes: number;
}

interface VersionEntry {
  readonly key: KeyTexts;
  readonly version: Version;
  readonly shard: ShardNumber;
  readonly applied: boolean;
  /** The version message itself lacked a value. */
  readonly incomplete: boolean;
  /**
   * Set when more was seen than the version's clock says. A write never leaves it set: an operation on CRDT fields does, which changes the state
   * and is no new version, so that only the whole state tells of it.
   */
  readonly seen: Clock | null;
}

type HeldRow = { readonly row: RowImage; readonly bytes: number } | 'reread';

/** Rough cost of an entry beside its values. */
const entryBytes = 400;

export class TransactionJoin {
  private readonly rows = new Map<string, Map<string, HeldRow>>();
  private readonly versions = new Map<string, Map<string, VersionEntry>>();
  private conflicts: ConflictRecord[] = [];
  private conflictMarks = new Map<string, ConflictMark>();
  private heartbeat = false;
  private bytes = 0;
  private dropped = false;
  private readonly bytesMax: number;
  private readonly chunkKeys: number;

  constructor(options: { readonly bytesMax: number; readonly chunkKeys: number }) {
    this.bytesMax = options.bytesMax;
    this.chunkKeys = options.chunkKeys;
  }

  /** True when `takeChunk` should be called before more is added. */
  get full(): boolean {
    return (
      this.dropped && [...this.versions.values()].reduce((sum, keys) => sum + keys.size, 0) >= this.chunkKeys
    );
  }

  add(role: RelationRole, tuple: Tuple): void {
    switch (role.kind) {
      case 'rows':
        return this.addRow(role, tuple);
      case 'versions':
        return this.addVersion(role, tuple);
      case 'conflicts':
        return this.addConflict(role, tuple);
      case 'heartbeat':
        this.heartbeat = true;
        return;
      case 'other':
        return;
    }
  }

  private addRow(role: RelationRole & { kind: 'rows' }, tuple: Tuple): void {
    if (this.dropped) return;
    const rows = mapOf(this.rows, role.table.collection);
    const key = keyText(keyOf(role.table, role.keyAt, tuple));
    const before = rows.get(key);
    if (before !== undefined && before !== 'reread') this.bytes -= before.bytes;
    if (tuple.incomplete) {
      rows.set(key, 'reread');
      return;
    }
    const bytes = entryBytes + tuple.bytes;
    rows.set(key, { row: { table: role.table, values: tuple.values() }, bytes });
    this.bytes += bytes;
    this.checkBudget();
  }

  private addVersion(role: RelationRole & { kind: 'versions' }, tuple: Tuple): void {
    const key = keyOf(role.table, role.keyAt, tuple);
    const versions = mapOf(this.versions, role.collection);
    const text = keyText(key);
    if (!versions.has(text)) this.bytes += entryBytes;
    versions.set(text, readVersionEntry(key, role.at, tuple));
    this.checkBudget();
  }

  private addConflict(role: RelationRole & { kind: 'conflicts' }, tuple: Tuple): void {
    const at = role.at;
    const { message } = tuple;
    if (message[tuple.startOf(at.applied)] === 1) return;
    const id = readUuid(bytesOf(tuple, at.id));
    const mark: ConflictMark = {
      id,
      state: message.toString('utf8', tuple.startOf(at.state), tuple.endOf(at.state)) as ConflictState,
      stateHlc: message.readBigInt64BE(tuple.startOf(at.state_hlc)),
      stateOrigin: message.readInt16BE(tuple.startOf(at.state_origin)),
    };
    if (this.dropped || tuple.incomplete) this.conflictMarks.set(id, mark);
    else {
      this.conflicts.push(recordFromJson(conflictJson(role, tuple)));
      this.bytes += entryBytes + tuple.bytes;
      this.checkBudget();
    }
  }

  private checkBudget(): void {
    if (this.bytes <= this.bytesMax || this.dropped) return;
    this.dropped = true;
    this.rows.clear();
    for (const record of this.conflicts) this.conflictMarks.set(record.id, record);
    this.conflicts = [];
  }

  /** Everything so far; with a large transaction what has gathered since the last call. */
  take(): Joined {
    const changes: DataChange[] = [];
    const reread: Reread[] = [];
    for (const [collection, versions] of this.versions) {
      const rows = this.rows.get(collection);
      for (const [text, entry] of versions) {
        if (entry.applied) continue;
        const change = joinOne(collection, entry, rows?.get(text));
        if (change === null)
          reread.push({ collection, key: entry.key, version: entry.version, seen: entry.seen });
        else changes.push(change);
      }
    }
    for (const record of this.conflicts)
      changes.push({
        kind: 'conflict',
        collection: record.collection,
        key: record.key,
        shard: record.shard,
        record,
      });
    const joined: Joined = {
      changes,
      reread,
      rereadConflicts: [...this.conflictMarks.values()],
      heartbeat: this.heartbeat,
      bytes: this.bytes,
    };
    this.rows.clear();
    this.versions.clear();
    this.conflicts = [];
    this.conflictMarks.clear();
    this.heartbeat = false;
    this.bytes = 0;
    return joined;
  }
}

function joinOne(collection: string, entry: VersionEntry, held: HeldRow | undefined): WriteChange | null {
  if (entry.incomplete || entry.seen !== null) return null;
  if (!entry.version.deleted && (held === undefined || held === 'reread')) return null;
  const row = entry.version.deleted || held === undefined || held === 'reread' ? null : held.row;
  return {
    kind: 'write',
    collection,
    key: entry.key,
    shard: entry.shard,
    version: entry.version,
    row,
    seen: null,
    losers: [],
    requests: [],
  };
}

function mapOf<V>(maps: Map<string, Map<string, V>>, name: string): Map<string, V> {
  let found = maps.get(name);
  if (found === undefined) maps.set(name, (found = new Map()));
  return found;
}

const bytesOf = (tuple: Tuple, column: number | undefined): Buffer =>
  tuple.message.subarray(tuple.startOf(column), tuple.endOf(column));

const keyOf = (table: TableImage, keyAt: readonly number[], tuple: Tuple): KeyTexts =>
  keyAt.map((at) => readKeyText(table.columns[at]!.type, bytesOf(tuple, at)));

function readVersionEntry(key: KeyTexts, at: Readonly<Record<string, number>>, tuple: Tuple): VersionEntry {
  const { message } = tuple;
  const optional = (column: number): Buffer | null => (tuple.has(column) ? bytesOf(tuple, column) : null);
  const request = optional(at.request!);
  const crdt = optional(at.crdt!);
  const seen = optional(at.seen!);
  const clockMissing = tuple.at(at.clock!) === unchanged;
  return {
    key,
    shard: message.readInt32BE(tuple.startOf(at.shard)) as ShardNumber,
    applied: message[tuple.startOf(at.applied)] === 1,
    incomplete: tuple.incomplete,
    seen: seen === null ? null : readClock(seen),
    version: {
      rank: message.readInt16BE(tuple.startOf(at.rank)),
      epoch: message.readBigInt64BE(tuple.startOf(at.epoch)) as Epoch,
      hlc: message.readBigInt64BE(tuple.startOf(at.hlc)) as HlcValue,
      dot: {
        origin: message.readInt16BE(tuple.startOf(at.origin)) as NodeNumber,
        counter: Number(message.readBigInt64BE(tuple.startOf(at.counter))),
      },
      clock: clockMissing ? {} : readClock(bytesOf(tuple, at.clock)),
      deleted: message[tuple.startOf(at.deleted)] === 1,
      request: request === null ? null : readUuid(request),
      crdt: crdt === null ? null : (JSON.parse(readJsonbText(crdt)) as CrdtState),
    },
  };
}

function conflictJson(role: RelationRole & { kind: 'conflicts' }, tuple: Tuple): ConflictJson {
  const result: Record<string, unknown> = {};
  role.table.columns.forEach((column, at) => {
    const value = tuple.at(at);
    result[column.name] = value instanceof Buffer ? readSimple(column.type, value) : null;
  });
  return result as unknown as ConflictJson;
}

/** The types of pgquorum.conflict; bigints as text. */
function readSimple(type: string, value: Buffer): unknown {
  switch (type) {
    case 'jsonb':
      return JSON.parse(readJsonbText(value)) as unknown;
    case 'int2':
      return value.readInt16BE(0);
    case 'int4':
      return value.readInt32BE(0);
    case 'int8':
      return String(value.readBigInt64BE(0));
    case 'bool':
      return value[0] === 1;
    case 'uuid':
      return readUuid(value);
    case 'timestamptz':
      return null;
    default:
      return value.toString('utf8');
  }
}
