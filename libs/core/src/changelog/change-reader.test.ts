import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { readFileSync } from 'node:fs';
import protobuf from 'protobufjs';
import { commits, writeChanges } from '../testing/changes.ts';
import { BackwardBytes } from './backward-bytes.ts';
import type { WriteChange } from './change.ts';
import { ChangeReader } from './change-reader.ts';
import { ChangeMessages, type ChangeMessage, type Commit, type DecodedChange } from './message.ts';
import { ProtoWriters } from './proto-writer.ts';
import { changeProtoFile } from './schema.files.ts';

const parsed = (): protobuf.Root => protobuf.parse(readFileSync(changeProtoFile, 'utf8')).root;
/** Texts of columns are read as the bytes that they are, but written as texts. */
const schema = parsed();
schema.lookupType('pgquorum.v1.ColumnValue').fields['text']!.type = 'bytes';
const type = schema.lookupType('pgquorum.v1.Change');
const messages = new ChangeMessages(schema);
const writers = new ProtoWriters();
const write = writers.of(parsed().lookupType('pgquorum.v1.Change'));

function encoded(change: WriteChange, commit: Commit): Buffer {
  const into = new BackwardBytes(1024);
  write(messages.message(change, commit, { id: '1:2.abc', originName: 'eü' }), into);
  return Buffer.from(into.view());
}
const plain = (bytes: Buffer): DecodedChange =>
  messages.change(type.decode(bytes) as unknown as ChangeMessage);

/** Null where it throws. */
function plainOrNull(bytes: Buffer): DecodedChange | null {
  try {
    return plain(bytes);
  } catch {
    return null;
  }
}

const readerOf = (change: WriteChange): ChangeReader => {
  const reader = new ChangeReader(schema, writers, messages);
  if (change.row !== null) reader.learn(change.row.table);
  return reader;
};

describe('the reader of common changes', () => {
  test("reads what the schema's reader reads, and rows share the table that it was told of", () => {
    fc.assert(
      fc.property(writeChanges, commits, (change, commit) => {
        const bytes = encoded(change, commit);
        const found = readerOf(change).read(bytes);
        const common = change.version.crdt === null && change.row?.values.every((value) => value !== null);
        if (found === null) {
          expect(common === true && formsAreTheTypes(change)).toBe(false);
          return;
        }
        expect(found).toEqual(plain(bytes));
        if (found.change.kind === 'write' && found.change.row !== null)
          expect(found.change.row.table).toBe(change.row!.table);
      }),
      { numRuns: 1500 },
    );
  });

  test('answers nothing of its own about bytes that were changed, cut or added to', () => {
    const damage = fc.oneof(
      fc.record({ kind: fc.constant('set'), at: fc.nat(), byte: fc.nat({ max: 255 }) }),
      fc.record({ kind: fc.constant('cut'), at: fc.nat(), byte: fc.constant(0) }),
      fc.record({ kind: fc.constant('put'), at: fc.nat(), byte: fc.nat({ max: 255 }) }),
    );
    fc.assert(
      fc.property(writeChanges, commits, damage, (change, commit, { kind, at, byte }) => {
        const bytes = encoded(change, commit);
        const place = at % bytes.length;
        const head = bytes.subarray(0, place);
        const tail = bytes.subarray(kind === 'put' ? place : place + 1);
        const damaged = Buffer.concat([head, kind === 'cut' ? Buffer.alloc(0) : Buffer.from([byte]), tail]);
        const found = readerOf(change).read(damaged);
        if (found !== null) expect(found).toEqual(plainOrNull(damaged));
      }),
      { numRuns: 4000 },
    );
  });

  test('takes rows of the types that most have', () => {
    const [sample] = fc.sample(writeChanges, 1);
    const columns = ['text', 'vector', 'jsonb', 'timestamptz', 'text'].map((name, at) => ({ name: `c${at}`, type: name, isKey: at === 0 })); // prettier-ignore
    const values = ['6b6579', '0002000000000001000000ff', '017b7d', '0002a1b2c3d4e5f6', null].map((hex) => (hex === null ? null : Buffer.from(hex, 'hex'))); // prettier-ignore
    const change = {
      ...sample!,
      version: { ...sample!.version, crdt: null },
      row: { table: { collection: sample!.collection, columns }, values },
    };
    const bytes = encoded(change, fc.sample(commits, 1)[0]!);
    expect(readerOf(change).read(bytes)).toEqual(plain(bytes));
  });

  test('leaves whole states, and tables that it does not know, to the other', () => {
    const [change] = fc.sample(
      writeChanges.filter((one) => one.row !== null && one.version.crdt === null),
      1,
    );
    const [commit] = fc.sample(commits, 1);
    const unknown = new ChangeReader(schema, writers, messages);
    expect(unknown.read(encoded(change!, commit!))).toBeNull();
    expect(readerOf(change!).read(encoded({ ...change!, seen: { 3: 4 } }, commit!))).toBeNull();
  });
});

/** Whether every value is one of the type that its column names, so that it has no reason to travel as bytes. */
const formsAreTheTypes = ({ row }: WriteChange): boolean =>
  row!.table.columns.every(({ type: name }) => name === 'bytea' || name === 'numeric');
