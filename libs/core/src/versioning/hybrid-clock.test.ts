import { expect, test } from '@jest/globals';
import fc from 'fast-check';
import { Hlc } from './hybrid-clock.ts';

const wall = fc.oneof(fc.nat({ max: 5 }), fc.nat({ max: 2_000_000_000_000 }));

test('every event is after the one before it, whatever the wall clock does, and never before the wall clock', () => {
  fc.assert(
    fc.property(fc.array(wall, { minLength: 2, maxLength: 30 }), (walls) => {
      let clock = new Hlc();
      for (const ms of walls) {
        const next = clock.next(ms);
        expect(next.compare(clock)).toBeGreaterThan(0);
        expect(next.ms).toBeGreaterThanOrEqual(ms);
        clock = next;
      }
    }),
  );
});

test('what is received is before what follows it, on both sides', () => {
  fc.assert(
    fc.property(wall, wall, wall, (a, b, now) => {
      const [here, there] = [Hlc.fromMs(a), Hlc.fromMs(b)];
      const next = here.receive(there, now);
      for (const one of [here, there]) expect(next.compare(one)).toBeGreaterThan(0);
      expect(next.compare(there.receive(here, now))).toBe(0);
    }),
  );
});

test('as long as the wall clock goes on, it is shown as it is', () => {
  expect(Hlc.fromMs(1000).next(1001)).toEqual(Hlc.fromMs(1001));
  expect(Hlc.fromMs(1000).next(1001).logical).toBe(0);
});

test('a clock that was set back stands still, and counts on', () => {
  const back = Hlc.fromMs(5000).next(1000).next(2000);
  expect([back.ms, back.logical, back.driftMs(2000)]).toEqual([5000, 2, 3000]);
});

test('more than 65,536 events in a millisecond flow over into the next one', () => {
  let clock = Hlc.fromMs(1000);
  for (let event = 0; event < 65_536; event += 1) clock = clock.next(1000);
  expect([clock.ms, clock.logical]).toEqual([1001, 0]);
  expect(clock.next(1001).logical).toBe(1);
});

test('comes back out of its text, and what is no time is refused', () => {
  fc.assert(
    fc.property(wall, (ms) =>
      expect(Hlc.parse(JSON.parse(JSON.stringify(Hlc.fromMs(ms).next(0))) as string).ms).toBe(ms),
    ),
  );
  for (const wrong of ['', '-1', '1.5', 'x', '9223372036854775808'])
    expect(() => Hlc.parse(wrong)).toThrow(expect.objectContaining({ code: 'invalid_request' }));
  for (const wrong of [-1, Number.NaN, Infinity, 2 ** 47])
    expect(() => Hlc.fromMs(wrong)).toThrow(expect.objectContaining({ code: 'invalid_request' }));
});
