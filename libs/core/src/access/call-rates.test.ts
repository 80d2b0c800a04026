import { expect, test } from '@jest/globals';
import fc from 'fast-check';
import { CallRates } from './call-rates.ts';

test('a burst goes through, then as many as the rate has', () => {
  const rates = new CallRates({ perS: 10, burst: 3 });
  expect([0, 0, 0, 0].map(() => rates.take('a', 0))).toEqual([0, 0, 0, 100]);
  expect(rates.take('a', 60)).toBe(40);
  expect([rates.take('a', 100), rates.take('a', 100)]).toEqual([0, 100]);
  expect([0, 0, 0, 0].map(() => rates.take('a', 60_000))).toEqual([0, 0, 0, 100]);
});

test('callers do not take from one another', () => {
  const rates = new CallRates({ perS: 1, burst: 1 });
  expect(['a', 'b', 'a', 'b', 'c'].map((caller) => rates.take(caller, 0))).toEqual([0, 0, 1000, 1000, 0]);
});

test('more callers than can be remembered are served all the same', () => {
  const rates = new CallRates({ perS: 1, burst: 1 });
  for (let at = 0; at < 20_000; at++) expect(rates.take(`caller ${at}`, 0)).toBe(0);
  expect(rates.take('caller 19999', 0)).toBe(1000);
});

test('in no time are there more than the rate and one burst, and whoever waits as told may go on', () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 50 }),
      fc.integer({ min: 1, max: 20 }),
      fc.array(fc.integer({ min: 0, max: 300 }), { maxLength: 60 }),
      (perS, burst, pauses) => {
        const rates = new CallRates({ perS, burst });
        let nowMs = 0;
        let taken = 0;
        for (const pauseMs of pauses) {
          nowMs += pauseMs;
          const waitMs = rates.take('a', nowMs);
          if (waitMs === 0) taken += 1;
          else {
            nowMs += waitMs;
            expect(rates.take('a', nowMs)).toBe(0);
            taken += 1;
          }
          expect(taken).toBeLessThanOrEqual(burst + (nowMs * perS) / 1000 + 1e-6);
        }
      },
    ),
  );
});
