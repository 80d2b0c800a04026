import { expect, test } from '@jest/globals';
import { encodeBits, parseBits } from './bits.ts';

test('the binary format is the number of bits and their bytes, the rest of the last one zero', () => {
  expect(encodeBits('1').toString('hex')).toBe('00000001' + '80');
  expect(encodeBits('10000001').toString('hex')).toBe('00000008' + '81');
  expect(encodeBits('0000111110').toString('hex')).toBe('0000000a' + '0f80');
});

test.each([
  ['too few bits', '10', 'dimension_mismatch'],
  ['too many bits', '1010', 'dimension_mismatch'],
  ['other digits', '102', 'invalid_vector'],
  ['white space', '10\n', 'invalid_vector'],
  ['numbers', [1, 0, 1], 'invalid_vector'],
])('%s are refused', (_name, given, message) => {
  expect(() => parseBits(given, 3)).toThrow(message);
});
