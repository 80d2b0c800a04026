import { expect, test } from '@jest/globals';
import { checkTime } from './time.ts';

test.each(['2026-01-31T12:00:00Z', '2024-02-29t00:00:00.123456z', '0001-01-01T00:00:00+15:59'])(
  '%s is a time',
  (text) => {
    expect(checkTime('since', text)).toBe(text);
  },
);

test.each([
  '2026-02-30T00:00:00Z',
  '2025-02-29T00:00:00Z',
  '2026-13-01T00:00:00Z',
  '0000-01-01T00:00:00Z',
  '2026-01-01T24:00:00Z',
  '2026-01-01T00:00:60Z',
  '0152-12-24T08:45:58.74631+18:19',
  '2026-01-01T00:00:00',
  '2026-01-01',
  '',
  7,
])('%s is none', (text) => {
  expect(() => checkTime('since', text)).toThrow(/since: must be a time/);
});
