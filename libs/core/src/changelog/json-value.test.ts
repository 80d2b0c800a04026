import { expect, test } from '@jest/globals';
import fc from 'fast-check';
import { jsonValue, singleText } from './json-value.ts';
import { numericText } from './numeric-text.ts';

test('a single-precision number is the same after its text, which is short', () => {
  fc.assert(
    fc.property(fc.float({ noNaN: true, noDefaultInfinity: true }), (number) => {
      const text = singleText(number);
      expect(Object.is(Math.fround(JSON.parse(text) as number), number)).toBe(true);
      expect(text.replaceAll(/e.*|\D/g, '').replaceAll(/^0+|0+$/g, '').length).toBeLessThan(17);
    }),
  );
  expect(
    [0.1, -2, 1e-7, 16_777_216, 3.4028234663852886e38, -0].map((x) => singleText(Math.fround(x))),
  ).toEqual(['0.1', '-2', '1e-7', '16777216', '3.4028235e+38', '-0']);
});

/** As Postgres sends it: groups of four digits, the place of the first, sign, digits after the point. */
function numeric(groups: number[], weight: number, sign: number, scale: number): Buffer {
  const bytes = Buffer.alloc(8 + groups.length * 2);
  [groups.length, weight, sign, scale].forEach((part, at) => bytes.writeUInt16BE(part & 0xffff, at * 2));
  groups.forEach((group, at) => bytes.writeUInt16BE(group, 8 + at * 2));
  return bytes;
}

test('a numeric keeps its digits and its zeros', () => {
  expect(numericText(numeric([1, 2345, 6700], 1, 0, 2))).toBe('12345.67');
  expect(numericText(numeric([12, 5000], 0, 0x4000, 2))).toBe('-12.50');
  expect(numericText(numeric([5], -2, 0, 8))).toBe('0.00000005');
  expect(numericText(numeric([3], 2, 0, 0))).toBe('300000000');
  expect(numericText(numeric([], 0, 0, 3))).toBe('0.000');
  expect(numericText(numeric([], 0, 0xc000, 0))).toBe('NaN');
  expect(jsonValue('numeric', numeric([], 0, 0xd000, 0), 'plain')).toBe('"Infinity"');
  expect(jsonValue('numeric', numeric([7], 0, 0, 1), 'plain')).toBe('7.0');
  expect(jsonValue('numeric', numeric([7], 0, 0, 1), 'debezium')).toBe('"7.0"');
});

const integers = (...parts: [bytes: 2 | 4 | 8, value: number][]): Buffer =>
  Buffer.concat(
    parts.map(([width, value]) => {
      const part = Buffer.alloc(width);
      if (width === 8) part.writeBigInt64BE(BigInt(value));
      else part.writeIntBE(value, 0, width);
      return part;
    }),
  );
const floats = (...values: number[]): Buffer =>
  Buffer.concat(
    values.map((value) => {
      const part = Buffer.alloc(4);
      part.writeFloatBE(value);
      return part;
    }),
  );

test('each type has its form in either style', () => {
  const both = (type: string, value: Buffer | null) => [
    jsonValue(type, value, 'plain'),
    jsonValue(type, value, 'debezium'),
  ];
  expect(both('text', null)).toEqual(['null', 'null']);
  expect(both('text', Buffer.from('a"é\n'))).toEqual(['"a\\"é\\n"', '"a\\"é\\n"']);
  expect(both('json', Buffer.from('{"a":\n 1e400}'))).toEqual(['{"a":  1e400}', '"{\\"a\\":\\n 1e400}"']);
  expect(both('int8', integers([8, -5]))).toEqual(['-5', '-5']);
  expect(both('bool', Buffer.from([1]))).toEqual(['true', 'true']);
  expect(both('float8', Buffer.from('7ff8000000000000', 'hex'))).toEqual(['"NaN"', '"NaN"']);
  expect(both('date', integers([4, 1]))).toEqual(['"2000-01-02"', '10958']);
  expect(jsonValue('date', integers([4, 0x7fffffff]), 'debezium')).toBe('2147483647');
  expect(both('timestamp', integers([8, 1_500_000]))).toEqual([
    '"2000-01-01T00:00:01.500000"',
    '946684801500000',
  ]);
  expect(both('timestamptz', integers([8, 0]))).toEqual(Array(2).fill('"2000-01-01T00:00:00.000000Z"'));
  expect(both('bytea', Buffer.from([255]))).toEqual(['"/w=="', '"/w=="']);
  expect(both('inet', Buffer.from([1, 2]))).toEqual(['{"base64":"AQI="}', '"AQI="']);
  expect(both('vector', Buffer.concat([integers([2, 2], [2, 0]), floats(0.1, -3)]))).toEqual(
    Array(2).fill('[0.1,-3]'),
  );
  const halves = Buffer.from('3c00c000000103ff', 'hex'); // 1, -2, the least and the greatest that is not normal
  expect(jsonValue('halfvec', Buffer.concat([integers([2, 4], [2, 0]), halves]), 'plain')).toBe(
    `[1,-2,${singleText(2 ** -24)},${singleText(1023 * 2 ** -24)}]`,
  );
  const sparse = Buffer.concat([integers([4, 9], [4, 2], [4, 0], [4, 0], [4, 7]), floats(1.5, 2)]);
  expect(both('sparsevec', sparse)).toEqual([
    '{"indices":[0,7],"values":[1.5,2],"dimension":9}',
    '"{1:1.5,8:2}/9"',
  ]);
  expect(both('bit', Buffer.concat([integers([4, 5]), Buffer.from([0b10110000])]))).toEqual([
    '"10110"',
    '"10110"',
  ]);
});
