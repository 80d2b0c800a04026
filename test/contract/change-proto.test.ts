/** Consumers made with an older .proto go on to work: fields are only ever added, and what they do not know does not concern them. */
import { expect, test } from '@jest/globals';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import protobuf from 'protobufjs';
import { changeProtoFile } from '#core/changelog/schema.files.ts';
import { ChangeCodec } from '#core/changelog/codec.ts';
import type { NodeNumber } from '#core/versioning/version.ts';
import { BatchSource } from './log-batches.ts';

const current = readFileSync(changeProtoFile, 'utf8');
const released = readFileSync(join(import.meta.dirname, 'change-released.proto'), 'utf8');
const schemaOf = (text: string): protobuf.Root => protobuf.parse(text).root;

/** Every field and every value of an enum: `Change.id 1 string`. */
function namesOf(root: protobuf.Root): string[] {
  const found: string[] = [];
  const visit = (space: protobuf.NamespaceBase): void => {
    for (const one of space.nestedArray) {
      if (one instanceof protobuf.Type)
        for (const { name, id, type, repeated } of one.fieldsArray)
          found.push(`${one.name}.${name} ${id} ${repeated ? 'repeated ' : ''}${type}`);
      if (one instanceof protobuf.Enum)
        for (const [name, id] of Object.entries(one.values)) found.push(`${one.name}.${name} ${id}`);
      if (one instanceof protobuf.Namespace) visit(one);
    }
  };
  visit(root);
  return found;
}

test('nothing that was released has changed its number, name or type', () => {
  const now = new Set(namesOf(schemaOf(current)));
  const before = namesOf(schemaOf(released));
  expect(before.length).toBeGreaterThan(60);
  expect(before.filter((one) => !now.has(one))).toEqual([]);
});

/** What a later version may look like: new fields in every message, a new operation. */
const later = current
  .replaceAll(
    /^message (\w+) \{$/gm,
    'message $1 {\n  string later_text = 1001;\n  repeated Dot later_dots = 1002;',
  )
  .replace('OPERATION_HEARTBEAT = 4;', 'OPERATION_HEARTBEAT = 4;\n  OPERATION_LATER = 5;');

interface Later {
  [field: string]: unknown;
}

/** Puts something into the new fields, everywhere. */
function fill(message: Later): void {
  for (const [name, value] of Object.entries(message)) {
    if (name === 'counters') continue; // a map: its entries are its own
    if (Array.isArray(value)) for (const one of value) if (isMessage(one)) fill(one);
    if (isMessage(value)) fill(value);
  }
  message['laterText'] = 'new';
  message['laterDots'] = [{ origin: 9, counter: 9, laterText: 'newer' }];
}
const isMessage = (value: unknown): value is Later =>
  typeof value === 'object' &&
  value !== null &&
  !ArrayBuffer.isView(value) &&
  !Array.isArray(value) &&
  !('low' in value);

test('a consumer with the older .proto reads what a later version sends as if nothing were new', () => {
  const batch = new BatchSource().batch([{ key: 'a', kind: 'put' }]);
  const commit = { origin: 1 as NodeNumber, commitTimeMs: 1_750_000_000_000, commitLsn: 77n };
  const { value } = new ChangeCodec(schemaOf(current)).encode(batch.changes[0]!, commit, 'eu');
  const options = { longs: String, enums: String, bytes: String };
  const oldType = schemaOf(released).lookupType('pgquorum.v1.Change');
  const plain = oldType.toObject(oldType.decode(value), options);
  const laterType = schemaOf(later).lookupType('pgquorum.v1.Change');
  const message = laterType.toObject(laterType.decode(value)) as Later;
  fill(message);
  const sent = laterType.encode(laterType.fromObject(message)).finish();
  expect(sent.length).toBeGreaterThan(value.length + 100);
  expect(oldType.toObject(oldType.decode(sent), options)).toEqual(plain);
  expect(new ChangeCodec(schemaOf(current)).decode(Buffer.from(sent), 'application/protobuf').change).toEqual(
    new ChangeCodec(schemaOf(current)).decode(value, 'application/protobuf').change,
  );
});

test('an operation that is new is told from those that are known', () => {
  const laterType = schemaOf(later).lookupType('pgquorum.v1.Change');
  const sent = laterType.encode(laterType.fromObject({ id: 'x', operation: 'OPERATION_LATER' })).finish();
  const oldType = schemaOf(released).lookupType('pgquorum.v1.Change');
  expect(oldType.toObject(oldType.decode(sent), { enums: String })).toEqual({ id: 'x', operation: 5 });
});
