import { describe, expect, test } from '@jest/globals';
import { hlcFromMs } from './hlc.ts';
import { writeLocally, type LocalWrite } from './local-write.ts';
import { absentState, mergeStates, type KeyState } from './merge.ts';
import type { Epoch, HlcValue, NodeNumber } from './version.ts';

const write = (over: Partial<LocalWrite<string>> = {}): LocalWrite<string> => ({
  node: 1 as NodeNumber,
  now: hlcFromMs(1000),
  drawn: 7,
  deleted: false,
  row: 'row',
  request: null,
  purgeHorizon: null,
  ...over,
});
const absent: KeyState<string> = absentState;

test('the first write of a key has seen itself only', () => {
  const { state, superseded, sequence } = writeLocally(absent, write({ request: 'r' }));
  expect(state.winner.version).toEqual({
    rank: 0,
    epoch: 0n,
    hlc: hlcFromMs(1000),
    dot: { origin: 1, counter: 7 },
    clock: { 1: 7 },
    deleted: false,
    request: 'r',
    crdt: null,
  });
  expect(state).toMatchObject({ seen: { 1: 7 }, losers: [], winner: { row: 'row' } });
  expect({ superseded, sequence }).toEqual({ superseded: [], sequence: 7 });
});

test('a write has seen all that its node had, closes the open losers, and forgets the request of what it replaces', () => {
  const other = writeLocally(absent, write({ node: 2 as NodeNumber, drawn: 3, request: 'r' }));
  const both = mergeStates<string>(writeLocally(absent, write()).state, other.state);
  const { state, superseded } = writeLocally(both, write({ drawn: 8 }));
  expect(state.winner.version).toMatchObject({ clock: { 1: 8, 2: 3 }, request: null });
  expect(state.losers).toEqual([]);
  expect(superseded).toEqual(both.losers.map((one) => one.version.dot));
});

describe('the hlc', () => {
  const old = writeLocally(absent, write({ now: hlcFromMs(5000) })).state;

  test('is above what it replaces, when the wall clock is behind', () => {
    expect(writeLocally(old, write({ now: hlcFromMs(1000) })).state.winner.version.hlc).toBe(
      (hlcFromMs(5000) as bigint) + 1n,
    );
  });

  test('is the wall clock when that is ahead', () => {
    expect(writeLocally(old, write({ now: hlcFromMs(6000) })).state.winner.version.hlc).toBe(hlcFromMs(6000));
  });

  test('is not below the purge horizon: a purged tombstone must not come back over it', () => {
    expect(writeLocally(absent, write({ purgeHorizon: hlcFromMs(9000) })).state.winner.version.hlc).toBe(
      hlcFromMs(9000),
    );
    expect(writeLocally(absent, write({ purgeHorizon: hlcFromMs(10) })).state.winner.version.hlc).toBe(
      hlcFromMs(1000),
    );
  });
});

test('a sequence that went back gives no counter that was seen before, and is set forward', () => {
  const old = writeLocally(absent, write({ drawn: 40 })).state;
  const { state, sequence } = writeLocally(old, write({ drawn: 3 }));
  expect(state.winner.version.dot.counter).toBe(41);
  expect(sequence).toBe(41);
});

test('rank and epoch are inherited, by tombstones too: the version order looks at them before the hlc', () => {
  const old = writeLocally(absent, write()).state;
  const ranked: KeyState<string> = {
    ...old,
    winner: {
      ...old.winner,
      version: { ...old.winner.version, rank: 2, epoch: 9n as Epoch, hlc: 1n as HlcValue },
    },
  };
  expect(writeLocally(ranked, write({ deleted: true })).state.winner.version).toMatchObject({
    rank: 2,
    epoch: 9n,
    deleted: true,
  });
});
