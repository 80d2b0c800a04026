import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { readFileSync } from 'node:fs';
import protobuf, { type Field, type Type } from 'protobufjs';
import { BackwardBytes, SwappedElements } from './backward-bytes.ts';
import { ProtoWriters } from './proto-writer.ts';
import { changeProtoFile } from './schema.files.ts';

const schema = protobuf.parse(readFileSync(changeProtoFile, 'utf8')).root;
const change = schema.lookupType('pgquorum.v1.Change');
const write = new ProtoWriters().of(change);

function written(message: object, capacity: number): Buffer {
  const bytes = new BackwardBytes(capacity);
  write(message, bytes);
  return Buffer.from(bytes.view());
}

const half = fc.integer({ min: -(2 ** 31), max: 2 ** 31 - 1 });
const halves = fc.record({ low: half, high: half });
const signed64 = fc.oneof(
  halves.map((found) => ({ ...found, unsigned: false })),
  fc.maxSafeInteger(),
);
const unsigned64 = fc.oneof(
  halves.map((found) => ({ ...found, unsigned: true })),
  fc.maxSafeNat(),
);
const text = fc.oneof(fc.string({ maxLength: 60 }), fc.string({ unit: 'grapheme', maxLength: 60 }));
const scalars: Readonly<Record<string, fc.Arbitrary<unknown>>> = {
  uint32: fc.nat({ max: 2 ** 32 - 1 }),
  sint32: half,
  int64: signed64,
  uint64: unsigned64,
  bool: fc.boolean(),
  double: fc.double(),
  string: text,
  bytes: fc.uint8Array({ maxLength: 40 }),
};

/** Anything that the schema allows, made from the schema: a new field is tried without a change here. */
function messages(type: Type, depth = 0): fc.Arbitrary<object> {
  const fields = type.fieldsArray.map((field) => field.resolve() as Field);
  const all = Object.fromEntries(fields.map((field) => [field.name, values(field, depth)]));
  return fc.record(all, { requiredKeys: [] }).map((message) => oneOfEach(type, message));
}

/** Of the fields of a oneof only the first that is there. */
function oneOfEach(type: Type, message: Record<string, unknown>): object {
  const kept = { ...message };
  for (const { fieldsArray } of type.oneofsArray) {
    for (const { name } of fieldsArray.filter((field) => field.name in kept).slice(1)) delete kept[name];
  }
  return kept;
}

function values(field: Field, depth: number): fc.Arbitrary<unknown> {
  const one = single(field, depth);
  if (field.map) return fc.dictionary(fc.nat({ max: 2 ** 32 - 1 }).map(String), one, { maxKeys: 3 });
  return field.repeated ? fc.array(one, { maxLength: 3 }) : one;
}

function single({ type, resolvedType }: Field, depth: number): fc.Arbitrary<unknown> {
  if (resolvedType === null) return scalars[type]!;
  if ('valuesById' in resolvedType) return fc.constantFrom(...Object.values(resolvedType.values));
  return depth > 4 ? fc.constant({}) : messages(resolvedType, depth + 1);
}

describe('the writer of protobuf messages', () => {
  test('writes what protobufjs writes, byte for byte, also when its memory has to grow', () => {
    fc.assert(
      fc.property(messages(change), fc.constantFrom(1, 16, 4096), (message, capacity) => {
        expect(written(message, capacity).toString('hex')).toBe(
          Buffer.from(change.encode(message).finish()).toString('hex'),
        );
      }),
      { numRuns: 1500 },
    );
  });

  test.each([2, 4] as const)('writes elements of %s bytes with their bytes reversed', (elementBytes) => {
    const elements = Buffer.from('0102030405060708', 'hex');
    const message = { seen: undefined, row: { columns: [{ name: 'c', value: { vector: {} } }] } };
    const swapped = { ...message, row: vectorRow(new SwappedElements(elements, elementBytes)) };
    const copied = Buffer.from(elements);
    const plain = { ...message, row: vectorRow(elementBytes === 2 ? copied.swap16() : copied.swap32()) };
    expect(written(swapped, 8).toString('hex')).toBe(written(plain, 8).toString('hex'));
    expect(elements.toString('hex')).toBe('0102030405060708');
  });

  test('refuses a schema with a type that it cannot write', () => {
    const other = protobuf.parse('syntax = "proto3"; message A { fixed32 b = 1; }').root.lookupType('A');
    expect(() => new ProtoWriters().of(other)).toThrow(/invariant_broken.*fixed32/);
  });
});

const vectorRow = (elements: Uint8Array | SwappedElements): object => ({
  columns: [{ name: 'c', value: { vector: { dimension: 2, values: elements } } }],
});
