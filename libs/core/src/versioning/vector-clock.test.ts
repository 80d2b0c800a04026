import { expect, test } from '@jest/globals';
import fc from 'fast-check';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import protobuf from 'protobufjs';
import { projectRoot } from '#core/config/project-root.files.ts';
import { VectorClock } from './vector-clock.ts';
import type { NodeNumber } from './version.ts';

const dot = (origin: number, counter: number) => ({ origin: origin as NodeNumber, counter });
const clock = fc
  .dictionary(fc.constantFrom('1', '2', '3', '4'), fc.nat({ max: 5 }), { noNullPrototype: true })
  .map((counters) => new VectorClock(counters));

test('an event is after all that its node had seen, and concurrent with what it had not', () => {
  const first = new VectorClock().increment(1);
  const [second, third] = [first.increment(2), first.increment(1)];
  expect(first.compare(second)).toBe('before');
  expect(second.compare(first)).toBe('after');
  expect(second.compare(third)).toBe('concurrent');
  expect(second.merge(third).compare(third.merge(second))).toBe('equal');
  expect(first.compare(new VectorClock({ 1: 1, 2: 0 }))).toBe('equal');
});

test('merging is commutative, associative and idempotent, and the least that is after both', () => {
  fc.assert(
    fc.property(clock, clock, clock, (a, b, c) => {
      const both = a.merge(b);
      expect(both.compare(b.merge(a))).toBe('equal');
      expect(both.merge(c).compare(a.merge(b.merge(c)))).toBe('equal');
      expect(a.merge(a)).toBe(a);
      for (const one of [a, b]) expect(['before', 'equal']).toContain(one.compare(both));
      const [ac, bc] = [a.compare(c), b.compare(c)];
      if (ac !== 'after' && ac !== 'concurrent' && bc !== 'after' && bc !== 'concurrent')
        expect(['before', 'equal']).toContain(both.compare(c));
    }),
  );
});

test('comparing one way round is the opposite of the other', () => {
  const opposite = { before: 'after', after: 'before', equal: 'equal', concurrent: 'concurrent' };
  fc.assert(fc.property(clock, clock, (a, b) => expect(b.compare(a)).toBe(opposite[a.compare(b)])));
});

test('incrementing changes only the copy, and is after', () => {
  fc.assert(
    fc.property(clock, fc.integer({ min: 1, max: 5 }), (a, node) => {
      const before = JSON.stringify(a);
      const next = a.increment(node);
      expect(a.compare(next)).toBe('before');
      expect(next.get(node)).toBe(a.get(node) + 1);
      expect(JSON.stringify(a)).toBe(before);
    }),
  );
});

test('the dotted form is the event and what came before it; two events are concurrent when neither has seen the other', () => {
  fc.assert(
    fc.property(clock, clock, (x, y) => {
      const [a, b] = [x.increment(1), y.increment(2)];
      const [da, db] = [a.dotted(1), b.dotted(2)];
      expect(da.dot).toEqual(dot(1, a.get(1)));
      expect(da.context.covers(da.dot)).toBe(false);
      expect(VectorClock.fromDotted(da).compare(a)).toBe('equal');
      const unseen = !a.covers(db.dot) && !b.covers(da.dot);
      if (a.compare(b) === 'before') expect(b.covers(da.dot)).toBe(true);
      if (unseen) expect(a.compare(b)).toBe('concurrent');
    }),
  );
  expect(() => new VectorClock().dotted(1)).toThrow(expect.objectContaining({ code: 'invalid_request' }));
});

test('pruning retired nodes keeps the order between clocks that include what all replicas have seen', () => {
  fc.assert(
    fc.property(clock, clock, clock, fc.subarray([1, 2, 3, 4]), (stable, x, y, retired) => {
      // Retired nodes write no more: what all have seen of them is all there is.
      const include = (one: VectorClock) => {
        const merged = { ...stable.merge(one).counters };
        for (const node of retired) merged[node] = stable.get(node);
        return new VectorClock(merged);
      };
      const [a, b] = [include(x), include(y)];
      const [pa, pb] = [a.prune({ retired, stable }), b.prune({ retired, stable })];
      expect(pa.compare(pb)).toBe(a.compare(b));
      for (const node of retired) expect(pa.get(node)).toBe(0);
      for (const node of [1, 2, 3, 4].filter((one) => !retired.includes(one)))
        expect(pa.get(node)).toBe(a.get(node));
    }),
  );
});

test('an entry that some replica has not seen yet stays, retired or not', () => {
  const stable = VectorClock.meet([new VectorClock({ 1: 5, 2: 3 }), new VectorClock({ 1: 4, 2: 9, 3: 1 })]);
  expect(stable.counters).toEqual({ 1: 4, 2: 3 });
  expect(new VectorClock({ 1: 5, 2: 3, 3: 1 }).prune({ retired: [1, 2, 3], stable }).counters).toEqual({
    1: 5,
    3: 1,
  });
  expect(VectorClock.meet([]).counters).toEqual({});
});

test('JSON is one small object, and what is no clock is refused', () => {
  const one = new VectorClock({ 10: 2, 9: 1, 3: 0 });
  expect(JSON.stringify(one)).toBe('{"9":1,"10":2}');
  expect(VectorClock.fromJSON(JSON.parse(JSON.stringify(one)))).toEqual(one);
  expect(String(one)).toBe('9.1 10.2');
  for (const wrong of [
    null,
    [],
    5,
    { a: 1 },
    { 0: 1 },
    { 1: -1 },
    { 1: 1.5 },
    { 1: '5' },
    { 4294967296: 1 },
    { 1: 2 ** 53 },
  ])
    expect(() => VectorClock.fromJSON(wrong)).toThrow(expect.objectContaining({ code: 'invalid_request' }));
});

test('goes through the protobuf message of the change log, with counters of more than 32 bits', () => {
  const file = join(projectRoot, 'libs/core/proto/pgquorum/v1/change.proto');
  const type = protobuf
    .parse(readFileSync(file, 'utf8'), { keepCase: false })
    .root.lookupType('pgquorum.v1.Clock');
  const one = new VectorClock({ 1: 5, 70000: Number.MAX_SAFE_INTEGER });
  const bytes = type.encode(type.fromObject(one.toProto())).finish();
  for (const options of [{ longs: String }, { longs: Number }])
    expect(VectorClock.fromProto(type.toObject(type.decode(bytes), options) as never)).toEqual(one);
  expect(VectorClock.fromProto({}).counters).toEqual({});
});
