import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import {
  bestSample,
  drifts,
  median,
  offsetsAgainstMedian,
  takeSample,
  withSample,
  type ClockSample,
  type ClockView,
} from './clock-drift.ts';

const gather = (samples: readonly ClockSample[]) =>
  samples.reduce<ClockSample[]>((kept, sample) => withSample(kept, sample), []);
const view = (offsets: Readonly<Record<number, number>>): ClockView =>
  new Map(
    Object.entries(offsets).map(([node, offsetMs]) => [Number(node), { offsetMs, roundTripMs: 1 }] as const),
  );

test('a sample is wrong by half the round trip at most, however the two ways share it', () => {
  const ms = fc.double({ min: 0, max: 1000, noNaN: true });
  fc.assert(
    fc.property(ms, ms, fc.integer({ min: -1e8, max: 1e8 }), (there, back, offset) => {
      const sent = 5000;
      const { offsetMs, roundTripMs } = takeSample(sent + there + offset, sent, sent + there + back);
      expect(Math.abs(offsetMs - offset)).toBeLessThanOrEqual(roundTripMs / 2 + 1e-6);
    }),
  );
});

test('the shortest round trip counts, and slow ones do not hide it', () => {
  const samples = gather([
    { offsetMs: 40, roundTripMs: 100 },
    { offsetMs: 3, roundTripMs: 2 },
    { offsetMs: -90, roundTripMs: 200 },
  ]);
  expect(bestSample(samples)).toEqual({ offsetMs: 3, roundTripMs: 2 });
  expect(bestSample([])).toBeNull();
});

test('a clock that was set shows with the next sample, however short the round trips before were', () => {
  const fast = { offsetMs: 0, roundTripMs: 0.2 };
  const stepped = { offsetMs: -3_600_000, roundTripMs: 80 };
  expect(bestSample(gather([fast, fast, stepped]))).toEqual(stepped);
  expect(bestSample(gather([fast, stepped, { offsetMs: 10, roundTripMs: 60 }]))?.offsetMs).toBe(10);
});

test('few samples are kept', () => {
  const kept = gather(Array.from({ length: 100 }, () => ({ offsetMs: 0, roundTripMs: 1 })));
  expect(kept.length).toBe(8);
});

describe('against the median', () => {
  test('the odd one out of three is named, whoever looks', () => {
    // Observers have clocks of their own: only differences count.
    const offsets = offsetsAgainstMedian([
      view({ 1: 100, 2: 100.2, 3: 3_600_100 }),
      view({ 1: -7, 2: -6.8, 3: 3_599_993 }),
    ]);
    expect(offsets.get(3)).toBeCloseTo(3_599_999.8, 1);
    expect(Math.abs(offsets.get(1)!)).toBeLessThan(1);
    expect(offsets.get(2)).toBe(0);
    expect([1, 2, 3].filter((node) => drifts(offsets.get(node)!, 500))).toEqual([3]);
  });

  test('of two nodes nobody can tell which one is wrong, so both are named', () => {
    const offsets = offsetsAgainstMedian([view({ 1: 0, 2: 2000 })]);
    expect([offsets.get(1), offsets.get(2)]).toEqual([-1000, 1000]);
  });

  test('who sees one node only, or fewer than others, has no say', () => {
    expect(offsetsAgainstMedian([view({ 1: 0 })]).size).toBe(0);
    expect(offsetsAgainstMedian([])).toEqual(new Map());
    const offsets = offsetsAgainstMedian([view({ 1: 0, 2: 0, 3: 9000 }), view({ 2: 0, 3: 9000 })]);
    expect([...offsets.values()]).toEqual([0, 0, 9000]);
  });

  test('one lying observer of three does not decide', () => {
    const honest = view({ 1: 0, 2: 0, 3: 0 });
    expect(offsetsAgainstMedian([honest, view({ 1: 0, 2: 0, 3: 5e6 }), honest]).get(3)).toBe(0);
  });
});

test('median', () => {
  expect(median([3, 1, 2])).toBe(2);
  expect(median([4, 1])).toBe(2.5);
});

test('what is not known does not drift, and the bound itself is allowed', () => {
  expect([drifts(null, 500), drifts(500, 500), drifts(-501, 500)]).toEqual([false, false, true]);
});
