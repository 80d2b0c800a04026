import { describe, expect, test } from '@jest/globals';
import type { Clock } from './clock.ts';
import { requestsOf } from './key-history.testing.ts';
import {
  absentState,
  conflictKind,
  deltaState,
  mergeStates,
  noRequests,
  type KeyState,
  type RequestWrite,
  type Stamped,
} from './merge.ts';
import { dotText, type Epoch, type HlcValue, type NodeNumber, type Version } from './version.ts';

function write(
  dot: readonly [number, number],
  hlc: number,
  seen: Clock = {},
  request: string | null = null,
  deleted = false,
): Stamped<string> {
  const version: Version = {
    rank: 0,
    epoch: 0n as Epoch,
    hlc: BigInt(hlc) as HlcValue,
    dot: { origin: dot[0] as NodeNumber, counter: dot[1] },
    clock: { ...seen, [dot[0]]: dot[1] },
    deleted,
    request,
    crdt: null,
  };
  return { version, row: `row of ${dotText(version.dot)}` };
}

const outcome = (state: KeyState<string>) => ({
  winner: state.winner && dotText(state.winner.version.dot),
  losers: state.losers.map((one) => dotText(one.version.dot)).sort(),
  seen: state.seen,
});

function* permutations<T>(items: readonly T[]): Generator<T[]> {
  if (items.length === 0) yield [];
  for (const [at, item] of items.entries())
    for (const rest of permutations([...items.slice(0, at), ...items.slice(at + 1)])) yield [item, ...rest];
}

/** As a node does it: what it has heard of requests grows with the writes that arrive. */
function deliver(writes: readonly Stamped<string>[]): KeyState<string> {
  let state: KeyState<string> = absentState;
  writes.forEach((one, at) => {
    const requests: ReadonlyMap<string, readonly RequestWrite[]> = requestsOf(
      writes.slice(0, at + 1).map((other) => other.version),
    );
    state = mergeStates(state, deltaState(one), requests);
  });
  return state;
}

function expectOneOutcome(writes: readonly Stamped<string>[]) {
  const outcomes = [...permutations(writes)].map((order) => outcome(deliver(order)));
  for (const one of outcomes) expect(one).toEqual(outcomes[0]);
  return outcomes[0]!;
}

describe('a request that was repeated on another node', () => {
  test('is no conflict with itself', () => {
    const result = expectOneOutcome([write([1, 5], 10, {}, 'r'), write([2, 7], 11, {}, 'r')]);
    expect(result).toMatchObject({ winner: '2.7', losers: [] });
  });

  test('beside a later write that has seen the lesser one of the two: the greater one wins, the other is recorded, on every node', () => {
    const later = write([3, 1], 11, { 1: 5 });
    const result = expectOneOutcome([write([1, 5], 10, {}, 'r'), write([2, 7], 20, {}, 'r'), later]);
    expect(result).toMatchObject({ winner: '2.7', losers: ['3.1'] });
    const reversed = expectOneOutcome([
      write([1, 5], 10, {}, 'r'),
      write([2, 7], 12, {}, 'r'),
      write([3, 1], 30, { 1: 5 }),
    ]);
    expect(reversed).toMatchObject({ winner: '3.1', losers: ['2.7'] });
  });

  test('beside a later write that has seen the greater one of the two is nothing at all', () => {
    const result = expectOneOutcome([
      write([1, 5], 10, {}, 'r'),
      write([2, 7], 20, {}, 'r'),
      write([3, 1], 30, { 2: 7 }),
    ]);
    expect(result).toMatchObject({ winner: '3.1', losers: [] });
  });

  test('after a write that had seen it overwrites that write: nothing is left without a winner', () => {
    const result = expectOneOutcome([
      write([2, 7], 10, {}, 'r'),
      write([4, 1], 11, { 2: 7 }),
      write([1, 5], 12, { 2: 7, 4: 1 }, 'r'),
    ]);
    expect(result).toMatchObject({ winner: '1.5', losers: [] });
  });

  test('crosswise with another one keeps both: each has seen the other', () => {
    const [r1, r2] = [write([1, 1], 10, {}, 'r'), write([2, 2], 21, { 2: 1 }, 'r')];
    const [s1, s2] = [write([1, 2], 20, { 1: 1 }, 's'), write([2, 1], 11, {}, 's')];
    expect(expectOneOutcome([r1, s1, s2, r2])).toMatchObject({ winner: '2.2', losers: ['1.2'] });
  });

  test('of three, only the greatest is kept as a loser', () => {
    const writes = [
      write([1, 1], 10, {}, 'r'),
      write([2, 1], 11, {}, 'r'),
      write([3, 1], 12, {}, 'r'),
      write([4, 1], 99),
    ];
    expect(expectOneOutcome(writes)).toMatchObject({ winner: '4.1', losers: ['3.1'] });
  });

  test('that is no longer remembered still ends in the same row', () => {
    const writes = [write([1, 5], 10, {}, 'r'), write([2, 7], 20, {}, 'r'), write([3, 1], 30, { 2: 7 })];
    const winners = [...permutations(writes)].map(
      (order) =>
        outcome(
          order.reduce<KeyState<string>>(
            (state, one) => mergeStates(state, deltaState(one), noRequests),
            absentState,
          ),
        ).winner,
    );
    expect(new Set(winners)).toEqual(new Set(['3.1']));
  });
});

test('equal hlcs are decided by the number of the node, not by arrival', () => {
  expect(expectOneOutcome([write([1, 1], 10), write([2, 1], 10)])).toMatchObject({
    winner: '2.1',
    losers: ['1.1'],
  });
});

test('a whole state hands over its open losers', () => {
  const whole = mergeStates(deltaState(write([1, 1], 10)), deltaState(write([2, 1], 11)));
  expect(outcome(mergeStates(absentState as KeyState<string>, whole))).toMatchObject({
    winner: '2.1',
    losers: ['1.1'],
  });
});

test('a whole state that has resolved a loser resolves it here too', () => {
  const open = mergeStates(deltaState(write([1, 1], 10)), deltaState(write([2, 1], 11)));
  expect(outcome(mergeStates(open, { ...open, losers: [] }))).toMatchObject({ winner: '2.1', losers: [] });
});

test('two states of which each says that the other one is gone stop the node', () => {
  const contradiction = () =>
    mergeStates(
      { ...deltaState(write([1, 1], 10)), seen: { 1: 1, 2: 1 } },
      { ...deltaState(write([2, 1], 11)), seen: { 1: 1, 2: 1 } },
    );
  expect(contradiction).toThrow(expect.objectContaining({ code: 'invariant_broken' }));
});

test('the kind of a conflict names the winner first', () => {
  const [row, gone] = [write([1, 1], 2, { 3: 1 }).version, write([2, 1], 1, { 3: 1 }, null, true).version];
  expect(conflictKind(row, gone)).toBe('update-delete');
  expect(conflictKind(gone, row)).toBe('delete-update');
  expect(conflictKind(gone, gone)).toBe('delete-delete');
  expect(conflictKind(row, write([4, 1], 1, { 3: 1 }).version)).toBe('update-update');
  expect(conflictKind(write([1, 1], 2).version, write([2, 1], 1).version)).toBe('insert-insert');
});
