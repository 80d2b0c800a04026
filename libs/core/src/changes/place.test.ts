import { expect, test } from '@jest/globals';
import fc from 'fast-check';
import { isPgquorumError } from '../errors/error.ts';
import { checkHeld, parsePlace, placeText, type HeldLog, type OriginPlace, type Place } from './place.ts';

const positions = fc
  .array(fc.option(fc.bigInt({ min: 0n, max: 2n ** 63n - 1n }), { nil: undefined }), { maxLength: 12 })
  .map(
    (list) =>
      new Map(list.flatMap((position, stream) => (position === undefined ? [] : [[stream, position]]))),
  );
const origin: fc.Arbitrary<OriginPlace> = fc.record({
  generation: fc.stringMatching(/^[A-Za-z0-9_-]{0,40}$/),
  positions,
});
const place: fc.Arbitrary<Place> = fc
  .uniqueArray(fc.tuple(fc.stringMatching(/^[a-z][a-z0-9_-]{0,31}$/), origin), {
    minLength: 1,
    maxLength: 5,
    selector: ([name]) => name,
  })
  .map((entries) => new Map(entries));

test('a place is the same after its text, which URLs and headers carry as it is', () => {
  fc.assert(
    fc.property(place, (one) => {
      const text = placeText(one);
      expect(encodeURIComponent(text)).toBe(text);
      expect(parsePlace(text)).toEqual(one);
    }),
  );
});

const codeOf = (work: () => unknown): string | null => {
  try {
    work();
  } catch (error) {
    return isPgquorumError(error) ? error.code : String(error);
  }
  return null;
};

test('other texts are no places', () => {
  for (const text of [
    '',
    '1',
    '2~a~b~c',
    '1~A~b~1',
    '1~a~b',
    '1~a~b~1~',
    '1~a~b~zzzzzzzzzzzzz',
    '1~a~b~11111111111111',
  ])
    expect([text, codeOf(() => parsePlace(text))]).toEqual([text, 'invalid_request']);
});

test('a place is held from the first position that the log has up to its end, in the same log', () => {
  const held: HeldLog = { generation: 'g', first: new Map([[0, -1n], [1, 4n]]), end: new Map([[0, 9n], [1, 9n]]) }; // prettier-ignore
  const check = (generation: string, streams: [number, bigint][]) =>
    codeOf(() => checkHeld('eu', { generation, positions: new Map(streams) }, held));
  expect(check('g', [[1, 4n]])).toBe(null);
  expect(check('g', [[0, 9n], [1, 9n]])).toBe(null); // prettier-ignore
  expect(check('g', [[1, 3n]])).toBe('position_expired');
  expect(check('g', [])).toBe('position_expired');
  expect(check('g', [[1, 10n]])).toBe('position_expired');
  expect(check('g', [[1, 4n], [2, 0n]])).toBe('position_expired'); // prettier-ignore
  expect(check('h', [[1, 4n]])).toBe('position_expired');
});
