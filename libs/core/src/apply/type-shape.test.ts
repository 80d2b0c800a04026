import { expect, test } from '@jest/globals';
import { withOids, type TypeShape } from './type-shape.ts';

const int = (value: number): Buffer => {
  const buffer = Buffer.alloc(4);
  buffer.writeInt32BE(value, 0);
  return buffer;
};
const item = (value: Buffer | null): Buffer =>
  value === null ? int(-1) : Buffer.concat([int(value.length), value]);
const array = (oid: number, ...items: (Buffer | null)[]): Buffer =>
  items.length === 0
    ? Buffer.concat([int(0), int(0), int(oid)])
    : Buffer.concat([int(1), int(0), int(oid), int(items.length), int(1), ...items.map(item)]);
const composite = (...fields: [oid: number, value: Buffer | null][]): Buffer =>
  Buffer.concat([
    int(fields.length),
    ...fields.map(([oid, value]) => Buffer.concat([int(oid), item(value)])),
  ]);
const text = (value: string): Buffer => Buffer.from(value);

test('a value without oids is passed on as it is', () => {
  const value = text('x');
  expect(withOids(null, value)).toBe(value);
});

test('an array gets the oid of its elements, empty or not, and keeps them', () => {
  const shape: TypeShape = { kind: 'array', elementOid: 20_000, element: null };
  const sent = array(16_999, text('happy'), null, text(''));
  const before = Buffer.from(sent);
  expect(withOids(shape, sent)).toEqual(array(20_000, text('happy'), null, text('')));
  expect(sent).toEqual(before);
  expect(withOids(shape, array(16_999))).toEqual(array(20_000));
});

test('a composite gets the oids of its fields, and those within them', () => {
  const shape: TypeShape = {
    kind: 'composite',
    fields: [
      { oid: 23, shape: null },
      { oid: 30_001, shape: { kind: 'array', elementOid: 30_000, element: null } },
      { oid: 30_002, shape: null },
    ],
  };
  expect(
    withOids(shape, composite([23, int(7)], [16_385, array(16_384, text('a'))], [16_386, null])),
  ).toEqual(composite([23, int(7)], [30_001, array(30_000, text('a'))], [30_002, null]));
});

test('an array of composites gets them all', () => {
  const shape: TypeShape = {
    kind: 'array',
    elementOid: 40_000,
    element: { kind: 'composite', fields: [{ oid: 40_001, shape: null }] },
  };
  expect(withOids(shape, array(1, composite([2, text('x')]), null, composite([2, null])))).toEqual(
    array(40_000, composite([40_001, text('x')]), null, composite([40_001, null])),
  );
});
