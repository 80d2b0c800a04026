/**
 * Writes the common change, a write of one key as the WAL brought it, straight from its parts: the message of plain objects that the schema's own writer takes
 * costs more than all the bytes that are written. Byte for byte the same as that one (change-writer.test.ts), which writes everything else. Pure but for its state.
 *
 * What all changes of a commit, and all rows of a table, have in common is written once and copied.
 */
import { isUtf8 } from 'node:buffer';
import type { Root, Type } from 'protobufjs';
import type { Clock } from '../versioning/clock.ts';
import type { Version } from '../versioning/version.ts';
import { BackwardBytes, SwappedElements } from './backward-bytes.ts';
import type { ColumnImage, RowImage, TableImage, WriteChange } from './change.ts';
import { toForm } from './column-value.ts';
import { commitMessage, type ChangeMessages, type Commit } from './message.ts';
import { tagOf, type ProtoWriters, type WriteMessage } from './proto-writer.ts';

/** False, with nothing written, where the form would not carry the value exactly. */
type WriteForm = (value: Buffer, into: BackwardBytes) => boolean;

interface ColumnWriter {
  /** Its name, its type and whether it is of the key. */
  readonly head: Buffer;
  /** Null where the schema's writer has to do it. */
  readonly form: WriteForm | null;
  readonly type: string;
}

/** What stands before the key in each change of a commit to a collection. */
interface Head {
  readonly commit: Commit;
  readonly originName: string;
  readonly collection: string;
  readonly deleted: boolean;
  readonly bytes: Buffer;
}

export class ChangeWriter {
  readonly #messages: ChangeMessages;
  readonly #writeChange: WriteMessage;
  readonly #writeColumn: WriteMessage;
  readonly #writeValue: WriteMessage;
  readonly #tags: ReturnType<typeof tagsOf>;
  readonly #forms: ReadonlyMap<string, WriteForm>;
  readonly #tables = new WeakMap<TableImage, readonly ColumnWriter[]>();
  readonly #scratch = new BackwardBytes(512);
  #head: Head | undefined;

  constructor(schema: Root, writers: ProtoWriters, messages: ChangeMessages) {
    this.#messages = messages;
    this.#writeChange = writers.of(schema.lookupType('pgquorum.v1.Change'));
    this.#writeColumn = writers.of(schema.lookupType('pgquorum.v1.Column'));
    this.#writeValue = writers.of(schema.lookupType('pgquorum.v1.ColumnValue'));
    this.#tags = tagsOf(schema);
    this.#forms = formsOf(schema);
  }

  /** Of a whole state the rest is for the schema's writer. */
  static takes(change: WriteChange): boolean {
    return change.seen === null && change.losers.length === 0 && change.requests.length === 0;
  }

  write(
    change: WriteChange,
    commit: Commit,
    { id, originName }: { readonly id: string; readonly originName: string },
    into: BackwardBytes,
  ): void {
    const tags = this.#tags;
    if (change.row !== null) this.#row(change.row, into);
    this.#version(change.version, into);
    if (change.shard !== 0) {
      into.varint(change.shard >>> 0);
      into.varint(tags.change.shard);
    }
    for (let at = change.key.length - 1; at >= 0; at -= 1) writeText(into, change.key[at]!, tags.change.key);
    into.bytes(this.#headOf(change, commit, originName));
    if (id !== '') writeText(into, id, tags.change.id);
  }

  #headOf(change: WriteChange, commit: Commit, originName: string): Buffer {
    const { collection } = change;
    const { deleted } = change.version;
    const head = this.#head;
    if (
      head?.commit === commit &&
      head.collection === collection &&
      head.deleted === deleted &&
      head.originName === originName
    )
      return head.bytes;
    const operation = this.#messages.operation(deleted ? 'delete' : 'upsert');
    const bytes = this.#bytesOf(this.#writeChange, {
      ...commitMessage(commit, originName),
      operation,
      collection,
    });
    this.#head = { commit, originName, collection, deleted, bytes };
    return bytes;
  }

  #bytesOf(write: WriteMessage, message: object): Buffer {
    this.#scratch.rewind();
    write(message, this.#scratch);
    return Buffer.from(this.#scratch.view());
  }

  #row({ table, values }: RowImage, into: BackwardBytes): void {
    const { change, row, column } = this.#tags;
    const columns = this.#tables.get(table) ?? this.#columnsOf(table);
    const before = into.length;
    for (let at = columns.length - 1; at >= 0; at -= 1) {
      const columnBefore = into.length;
      this.#value(columns[at]!, values[at] ?? null, into);
      into.varint(into.length - columnBefore);
      into.varint(column.value);
      into.bytes(columns[at]!.head);
      into.varint(into.length - columnBefore);
      into.varint(row.columns);
    }
    into.varint(into.length - before);
    into.varint(change.row);
  }

  #columnsOf(table: TableImage): readonly ColumnWriter[] {
    const columns = table.columns.map(({ name, type, isKey }: ColumnImage): ColumnWriter => ({
      head: this.#bytesOf(this.#writeColumn, { name, type, key: isKey }),
      form: this.#forms.get(type) ?? null,
      type,
    }));
    this.#tables.set(table, columns);
    return columns;
  }

  #value({ form, type }: ColumnWriter, value: Buffer | null, into: BackwardBytes): void {
    if (value !== null && form?.(value, into) === true) return;
    this.#writeValue(toForm(type, value), into);
  }

  #version(version: Version, into: BackwardBytes): void {
    const { change, version: tags } = this.#tags;
    const before = into.length;
    if (version.crdt !== null && version.crdt !== undefined)
      writeText(into, JSON.stringify(version.crdt), tags.crdtJson);
    if (version.request !== null) writeText(into, version.request, tags.request);
    if (version.deleted) {
      into.uint8(1);
      into.varint(tags.deleted);
    }
    this.#clock(version.clock, into);
    writeNumber(into, version.dot.counter, tags.counter);
    writeNumber(into, version.dot.origin, tags.origin);
    writeBigint(into, version.hlc, tags.hlc);
    writeBigint(into, version.epoch, tags.epoch);
    if (version.rank !== 0) {
      into.zigzag(version.rank);
      into.varint(tags.rank);
    }
    into.varint(into.length - before);
    into.varint(change.version);
  }

  #clock(clock: Clock, into: BackwardBytes): void {
    const { version, clock: tags } = this.#tags;
    const nodes = Object.keys(clock);
    const before = into.length;
    for (let at = nodes.length - 1; at >= 0; at -= 1) {
      const entryBefore = into.length;
      into.varint(clock[nodes[at]!]!);
      into.varint(entry.value);
      into.varint(Number(nodes[at]));
      into.varint(entry.key);
      into.varint(into.length - entryBefore);
      into.varint(tags.counters);
    }
    into.varint(into.length - before);
    into.varint(version.clock);
  }
}

/** Of a map every entry is a message of these, present whatever their values are. */
const entry = { key: tagOf(1, 0), value: tagOf(2, 0) } as const;

function writeText(into: BackwardBytes, text: string, tag: number): void {
  const before = into.length;
  into.text(text);
  into.varint(into.length - before);
  into.varint(tag);
}

/** Not negative, and left out when it is 0, as proto3 does. */
function writeNumber(into: BackwardBytes, value: number, tag: number): void {
  if (value === 0) return;
  into.varint(value);
  into.varint(tag);
}

const halves = new DataView(new ArrayBuffer(8));

function writeBigint(into: BackwardBytes, value: bigint, tag: number): void {
  halves.setBigInt64(0, value);
  const high = halves.getInt32(0);
  const low = halves.getInt32(4);
  if (high === 0 && low === 0) return;
  into.varint64(low, high);
  into.varint(tag);
}

// --- the schema's numbers ---

const tag = (type: Type, field: string, wireType: 0 | 2): number => tagOf(type.fields[field]!.id, wireType);

function tagsOf(schema: Root) {
  const type = (name: string): Type => schema.lookupType(`pgquorum.v1.${name}`);
  const [change, version, clock, row, column] = ['Change', 'Version', 'Clock', 'Row', 'Column'].map(type) as [Type, Type, Type, Type, Type]; // prettier-ignore
  return {
    change: {
      id: tag(change, 'id', 2),
      key: tag(change, 'key', 2),
      shard: tag(change, 'shard', 0),
      version: tag(change, 'version', 2),
      row: tag(change, 'row', 2),
    },
    version: {
      rank: tag(version, 'rank', 0),
      epoch: tag(version, 'epoch', 0),
      hlc: tag(version, 'hlc', 0),
      origin: tag(version, 'origin', 0),
      counter: tag(version, 'counter', 0),
      clock: tag(version, 'clock', 2),
      deleted: tag(version, 'deleted', 0),
      request: tag(version, 'request', 2),
      crdtJson: tag(version, 'crdtJson', 2),
    },
    clock: { counters: tag(clock, 'counters', 2) },
    row: { columns: tag(row, 'columns', 2) },
    column: { value: tag(column, 'value', 2) },
  };
}

/** The types that most rows are made of, as column-value.ts has them. */
function formsOf(schema: Root): ReadonlyMap<string, WriteForm> {
  const value = schema.lookupType('pgquorum.v1.ColumnValue');
  const text = textForm(tag(value, 'text', 2), 0);
  const vector = schema.lookupType('pgquorum.v1.VectorValue');
  return new Map([
    ['text', text],
    ['varchar', text],
    ['json', text],
    ['jsonb', textForm(tag(value, 'text', 2), 1)],
    ['vector', vectorForm({ vector: tag(value, 'vector', 2), dimension: tag(vector, 'dimension', 0), values: tag(vector, 'values', 2) })], // prettier-ignore
  ]);
}

/** With `versionBytes` 1 as jsonb, whose text follows a byte that is 1: the byte itself is UTF-8 too. */
const textForm =
  (textTag: number, versionBytes: 0 | 1): WriteForm =>
  (value, into) => {
    if ((versionBytes === 1 && value[0] !== 1) || !isUtf8(value)) return false;
    into.bytes(versionBytes === 1 ? value.subarray(1) : value);
    into.varint(value.length - versionBytes);
    into.varint(textTag);
    return true;
  };

const vectorForm =
  (tags: { readonly vector: number; readonly dimension: number; readonly values: number }): WriteForm =>
  (value, into) => {
    const dimension = value.length < 4 ? 0 : (value[0]! << 8) | value[1]!;
    if (value.length !== 4 + dimension * 4 || value[2] !== 0 || value[3] !== 0) return false;
    const before = into.length;
    if (dimension > 0) {
      into.swapped(new SwappedElements(value.subarray(4), 4));
      into.varint(dimension * 4);
      into.varint(tags.values);
      into.varint(dimension);
      into.varint(tags.dimension);
    }
    into.varint(into.length - before);
    into.varint(tags.vector);
    return true;
  };
