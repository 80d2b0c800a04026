import { expect, test } from '@jest/globals';
import fc from 'fast-check';
import { hlcFromMs, hlcMs, nextHlc } from './hlc.ts';
import type { HlcValue } from './version.ts';

const hlc = fc.bigInt({ min: 0n, max: (1n << 63n) - 2n }).map((value) => value as HlcValue);

test('milliseconds come back out of a value, whatever its logical part', () => {
  expect(hlcFromMs(1_700_000_000_123)).toBe(1_700_000_000_123n << 16n);
  expect(hlcMs((hlcFromMs(1_700_000_000_123) as bigint) | (0xffffn as HlcValue))).toBe(1_700_000_000_123);
  expect(hlcFromMs(12.9)).toBe(hlcFromMs(12));
});

test('the largest time that 48 bits hold fits a bigint column', () => {
  expect(hlcFromMs(2 ** 47 - 1) as bigint).toBeLessThan(1n << 63n);
});

test('the next value is at least the wall clock and above what it replaces', () => {
  fc.assert(
    fc.property(hlc, fc.option(hlc), (now, previous) => {
      const next = nextHlc(now, previous);
      expect(next >= now).toBe(true);
      if (previous !== null) expect(next > previous).toBe(true);
      // And not a bit more: a clock that is ahead must not run further ahead than it has to.
      expect(next === now || next === (previous as bigint) + 1n).toBe(true);
    }),
  );
});

test('65,536 writes within a millisecond flow over into the next one', () => {
  const now = hlcFromMs(1000);
  let value = nextHlc(now, null);
  for (let write = 0; write < 65_536; write += 1) value = nextHlc(now, value);
  expect(hlcMs(value)).toBe(1001);
});

test('a chain of writes only grows, however the clocks of their nodes jump', () => {
  const clockMs = fc.integer({ min: 0, max: 2 ** 47 - 2 });
  fc.assert(
    fc.property(fc.array(clockMs, { minLength: 2, maxLength: 50 }), (clocks) => {
      const chain = clocks.reduce<HlcValue[]>(
        (values, ms) => [...values, nextHlc(hlcFromMs(ms), values.at(-1) ?? null)],
        [],
      );
      for (const [at, value] of chain.entries()) {
        if (at > 0) expect(value > chain[at - 1]!).toBe(true);
        // It runs ahead of the clocks seen so far by the number of writes at most, never by time.
        const greatest = hlcFromMs(Math.max(...clocks.slice(0, at + 1))) as bigint;
        expect(value - greatest).toBeLessThanOrEqual(BigInt(at));
      }
    }),
  );
});
