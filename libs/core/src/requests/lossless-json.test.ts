import { expect, test } from '@jest/globals';
import fc from 'fast-check';
import { isRawNumber, parseLossless } from './lossless-json.ts';

test.each([
  '12345678901234567891',
  '-9007199254740993',
  '[9007199254740993,1]',
  '{"a":{"b":1e400}}',
  '1E+999',
  '{"a":"12345678901234567891","b":12345678901234567891}',
])('%s is written as it was read', (text) => {
  expect(JSON.stringify(parseLossless(text))).toBe(text);
});

test.each(['9007199254740992', '1e21', '0.12345678901234567', '-0.5', '100000000000000000000'])(
  '%s is a plain number',
  (text) => {
    expect(parseLossless(text)).toBe(Number(text));
  },
);

test('a number that can not be held is told from an object', () => {
  expect(isRawNumber(parseLossless('12345678901234567891'))).toBe(true);
  expect(isRawNumber(parseLossless('{"rawJSON":"1"}'))).toBe(false);
});

test('everything else is parsed as JSON.parse does', () => {
  fc.assert(
    fc.property(fc.jsonValue(), (value) => {
      const text = JSON.stringify(value);
      expect(JSON.stringify(parseLossless(text))).toBe(text);
    }),
  );
});

test('integers of any length survive', () => {
  fc.assert(
    fc.property(fc.bigInt(), (value) => {
      expect(JSON.stringify(parseLossless(`{"n":${value}}`))).toMatch(
        BigInt(Number(value)) === value ? /^\{"n":/ : new RegExp(`^\\{"n":${value}\\}$`),
      );
    }),
  );
});
