import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { crc32c, nativeCrc32c, tableCrc32c } from './crc32c.ts';

/** The definition, bit by bit. */
function model(bytes: Uint8Array): number {
  let crc = 0xffffffff;
  for (const byte of bytes) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit += 1) crc = (crc & 1) === 1 ? (crc >>> 1) ^ 0x82f63b78 : crc >>> 1;
  }
  return ~crc >>> 0;
}

describe('CRC-32C', () => {
  // RFC 3720, B.4.
  test.each([
    ['', 0],
    ['313233343536373839', 0xe3069283],
    ['00'.repeat(32), 0x8a9136aa],
    ['ff'.repeat(32), 0x62a8ab43],
    [Buffer.from(Array.from({ length: 32 }, (_, at) => at)).toString('hex'), 0x46dd794e],
  ])('of %s', (hex, expected) => {
    expect(crc32c(Buffer.from(hex, 'hex'))).toBe(expected);
    expect(tableCrc32c(Buffer.from(hex, 'hex'))).toBe(expected);
  });

  test('is made by the processor here', () => {
    expect(typeof nativeCrc32c).toBe('function');
  });

  test('is the same wherever the bytes lie in memory, and however many they are', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 100 }), fc.nat({ max: 16 }), (bytes, before) => {
        const memory = Buffer.alloc(before + bytes.length, 0xa5);
        memory.set(bytes, before);
        expect(crc32c(memory.subarray(before))).toBe(model(bytes));
        expect(tableCrc32c(memory, before)).toBe(model(bytes));
      }),
      { numRuns: 2000 },
    );
  });
});
