/**
 * Reads the common change, as change-writer.ts writes it, without the message of plain objects that protobufjs makes of it. Pure but for its state.
 *
 * Invariant: it answers null, or what the schema's own reader answers (change-reader.test.ts). It takes fields in ascending order, each of them once and only those
 * that it knows; whatever else comes, from a newer writer or damaged, is for that reader: it reads all, and says what is wrong.
 */
import type { Root, Type } from 'protobufjs';
import type { Epoch, HlcValue, NodeNumber, ShardNumber, Version } from '../versioning/version.ts';
import { BackwardBytes } from './backward-bytes.ts';
import type { RowImage, TableImage } from './change.ts';
import { toBinary, type ValueForm } from './column-value.ts';
import type { ChangeMessages, DecodedChange } from './message.ts';
import { ProtoCursor } from './proto-cursor.ts';
import { tagOf, type ProtoWriters, type WriteMessage } from './proto-writer.ts';

interface KnownTable {
  readonly table: TableImage;
  /** Of each column what stands before its value. */
  readonly heads: readonly Buffer[];
}

const varint = 0;
const delimited = 2;
/** Field numbers never change; that they are the schema's is what the test is for. */
const change = { id: tagOf(1, delimited), operation: tagOf(2, varint), origin: tagOf(3, delimited), originNumber: tagOf(4, varint), commitTimeUs: tagOf(5, varint), commitLsn: tagOf(6, varint), collection: tagOf(7, delimited), key: tagOf(8, delimited), shard: tagOf(9, varint), version: tagOf(10, delimited), row: tagOf(11, delimited) } as const; // prettier-ignore
const version = { rank: tagOf(1, varint), epoch: tagOf(2, varint), hlc: tagOf(3, varint), origin: tagOf(4, varint), counter: tagOf(5, varint), clock: tagOf(6, delimited), deleted: tagOf(7, varint), request: tagOf(8, delimited), crdtJson: tagOf(9, delimited) } as const; // prettier-ignore
const first = { varint: tagOf(1, varint), delimited: tagOf(1, delimited) } as const;
const second = { varint: tagOf(2, varint), delimited: tagOf(2, delimited) } as const;
const column = { value: tagOf(4, delimited) } as const;
const value = { text: tagOf(2, delimited), vector: tagOf(7, delimited) } as const;

const texts = new Set(['text', 'varchar', 'json']);

export class ChangeReader {
  readonly #valueType: Type;
  readonly #writeColumn: WriteMessage;
  readonly #upsert: number;
  readonly #delete: number;
  readonly #tables = new Map<string, KnownTable>();

  /** `schema` has texts of columns as bytes. */
  constructor(schema: Root, writers: ProtoWriters, messages: ChangeMessages) {
    this.#valueType = schema.lookupType('pgquorum.v1.ColumnValue');
    this.#writeColumn = writers.of(schema.lookupType('pgquorum.v1.Column'));
    this.#upsert = messages.operation('upsert');
    this.#delete = messages.operation('delete');
  }

  /** The table of rows that come: they share this object. */
  learn(table: TableImage): void {
    if (this.#tables.get(table.collection)?.table === table) return;
    const heads = table.columns.map(({ name, type, isKey }) => {
      const bytes = new BackwardBytes(64);
      this.#writeColumn({ name, type, key: isKey }, bytes);
      return Buffer.from(bytes.view());
    });
    this.#tables.set(table.collection, { table, heads });
  }

  read(bytes: Buffer): DecodedChange | null {
    const from = new ProtoCursor(bytes);
    from.skipText(change.id);
    const operation = from.uint32(change.operation);
    const originName = from.text(change.origin) ?? '';
    const origin = from.uint32(change.originNumber) as NodeNumber;
    const commitTimeMs = from.number(change.commitTimeUs) / 1000;
    const commitLsn = from.unsigned(change.commitLsn);
    const collection = from.text(change.collection) ?? '';
    const key: string[] = [];
    for (let text = from.text(change.key); text !== null; text = from.text(change.key)) key.push(text);
    const shard = from.uint32(change.shard) as ShardNumber;
    if ((operation !== this.#upsert && operation !== this.#delete) || !from.enter(change.version))
      return null;
    const written = readVersion(from);
    let row: RowImage | null = null;
    if (written !== null && from.enter(change.row)) {
      row = this.#row(from, collection);
      if (row === null) return null;
    }
    if (written === null || !from.finished) return null;
    const write = { kind: 'write', collection, key, shard, version: written, row, seen: null, losers: [], requests: [] } as const; // prettier-ignore
    return { origin, originName, commitTimeMs, commitLsn, change: write };
  }

  #row(from: ProtoCursor, collection: string): RowImage | null {
    const known = this.#tables.get(collection);
    if (known === undefined) return null;
    const { table, heads } = known;
    const values: (Buffer | null)[] = [];
    for (let at = 0; at < heads.length; at += 1) {
      if (!from.enter(first.delimited) || !from.follows(heads[at]!) || !from.enter(column.value)) return null;
      const found = this.#value(from, table.columns[at]!.type);
      if (found === undefined || !from.leave() || !from.leave()) return null;
      values.push(found);
    }
    return from.leave() ? { table, values } : null;
  }

  /** Undefined for what is for the other reader. Leaves nothing of the value unread. */
  #value(from: ProtoCursor, type: string): Buffer | null | undefined {
    if (type === 'vector') return readVector(from);
    const isJsonb = type === 'jsonb';
    const text = isJsonb || texts.has(type) ? from.bytes(value.text) : null;
    if (text !== null) return isJsonb ? withVersion(text) : text;
    const rest = from.rest();
    if (rest === null) return undefined;
    try {
      return toBinary(type, this.#valueType.decode(rest) as ValueForm);
    } catch {
      return undefined; // the other reader says what is wrong with it
    }
  }
}

function withVersion(text: Buffer): Buffer {
  const bytes = Buffer.allocUnsafe(1 + text.length);
  bytes[0] = 1;
  bytes.set(text, 1);
  return bytes;
}

function readVector(from: ProtoCursor): Buffer | undefined {
  if (!from.enter(value.vector)) return undefined;
  const dimension = from.uint32(first.varint);
  const elements = from.bytes(second.delimited);
  if (dimension > 0xffff || dimension * 4 !== (elements?.length ?? 0) || !from.leave()) return undefined;
  const bytes = Buffer.allocUnsafe(4 + dimension * 4);
  bytes.writeUInt16BE(dimension, 0);
  bytes.writeUInt16BE(0, 2);
  if (elements === null) return bytes;
  bytes.set(elements, 4);
  bytes.subarray(4).swap32();
  return bytes;
}

/** Of the message that was entered, which it leaves. */
function readVersion(from: ProtoCursor): Version | null {
  const rank = from.sint32(version.rank);
  const epoch = from.signed(version.epoch) as Epoch;
  const hlc = from.signed(version.hlc) as HlcValue;
  const origin = from.uint32(version.origin) as NodeNumber;
  const counter = from.number(version.counter);
  const clock: Record<string, number> = {};
  if (from.enter(version.clock)) {
    while (from.enter(first.delimited)) {
      const node = from.uint32(first.varint);
      clock[node] = from.number(second.varint);
      if (!from.leave()) return null;
    }
    if (!from.leave()) return null;
  }
  const deleted = from.uint32(version.deleted);
  const request = from.text(version.request);
  const crdt = from.text(version.crdtJson);
  if (deleted > 1 || crdt !== null || !from.leave()) return null;
  return { rank, epoch, hlc, dot: { origin, counter }, clock, deleted: deleted === 1, request, crdt: null }; // prettier-ignore
}
