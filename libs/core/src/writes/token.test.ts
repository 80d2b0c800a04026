import { expect, test } from '@jest/globals';
import fc from 'fast-check';
import type { NodeNumber } from '../versioning/version.ts';
import { decodeToken, encodeToken } from './token.ts';

test('a token says again what it was made of, whatever the keys are', () => {
  fc.assert(
    fc.property(
      fc.array(
        fc.tuple(
          fc.string({ minLength: 1, unit: 'grapheme' }),
          fc.integer({ min: 1, max: 32_767 }),
          fc.integer({ min: 1, max: 2 ** 50 }),
        ),
        { maxLength: 50 },
      ),
      fc.array(
        fc.tuple(
          fc.integer({ min: 1, max: 32_767 }),
          fc.bigInt({ min: 0n, max: 2n ** 63n }),
          fc.integer({ min: 0, max: 2 ** 50 }),
        ),
        { maxLength: 9 },
      ),
      (writes, positions) => {
        const token = {
          collection: 'docs',
          writes: writes.map(([id, origin, counter]) => ({
            id,
            dot: { origin: origin as NodeNumber, counter },
          })),
          positions: positions.map(([origin, position, atMs]) => ({
            origin: origin as NodeNumber,
            position: String(position),
            atMs,
          })),
        };
        const text = encodeToken(token);
        expect(text).toMatch(/^[\w-]+$/);
        expect(decodeToken(text)).toEqual(token);
      },
    ),
  );
});

test.each([
  ['nothing', ''],
  ['no text', 7],
  ['other characters', 'a b'],
  ['no JSON', Buffer.from('{').toString('base64url')],
  ['another shape', Buffer.from('{"c":"docs","w":[["a",1]]}').toString('base64url')],
  ['a field too many', Buffer.from('{"c":"docs","x":1}').toString('base64url')],
  ['a text that never ends', 'a'.repeat(70_000)],
])('%s is no token', (_, text) => {
  expect(() => decodeToken(text)).toThrow(expect.objectContaining({ code: 'invalid_token' }));
});
