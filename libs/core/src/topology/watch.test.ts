import { expect, test } from '@jest/globals';
import type { Edge } from './status.ts';
import { eventOf, keyOf, observe, settled, type Observation } from './watch.ts';

const numberOf = (name: string): number => Number(name.slice(1));
const edge = (ms: number | null, state: Edge['state'] = 'active'): Edge => ({
  from: 'n1',
  to: 'n2',
  ms,
  bytes: 5,
  kept: 5,
  changes: 0,
  parked: 0,
  parkedMs: null,
  applied: '1',
  state,
  problem: null,
});
const lagOf = (ms: number | null, told: string | null): string => {
  const key = keyOf({ kind: 'lag', origin: 1, target: 2 });
  const observations = observe({
    replicas: [],
    edges: [edge(ms)],
    numberOf,
    lagExceededMs: 1000,
    told: new Map(told === null ? [] : [[key, told]]),
  });
  return observations.find(({ kind }) => kind === 'lag')!.state;
};

test.each([
  [1001, null, 'exceeded'],
  [1000, null, 'over'],
  [1001, 'over', 'exceeded'],
  [600, 'exceeded', 'exceeded'],
  [499, 'exceeded', 'over'],
  [600, 'over', 'over'],
  [null, 'exceeded', 'exceeded'],
  [null, 'over', 'over'],
])('a lag of %p ms that was told as %p is %s', (ms, told, state) => {
  expect(lagOf(ms, told)).toBe(state);
});

test('a state counts once it was seen twice in a row', () => {
  const before = new Map<string, string>();
  const look = (state: string): string[] =>
    settled([{ kind: 'edge', origin: 1, target: 2, state, facts: {} }], before).map((one) => one.state);
  expect(['active', 'active', 'down', 'active', 'active', 'down', 'down'].flatMap(look)).toEqual([
    'active',
    'active',
    'down',
  ]);
});

const transition = (kind: Observation['kind'], state: string, was: string | null) =>
  eventOf({ kind, origin: 1, target: 2, state, was, facts: {} });

test('replicas tell every change, edges that they are well again, lags that they begin and end', () => {
  expect(transition('replica', 'down', 'active')).toEqual({
    type: 'replica-status',
    body: { replica: 2, status: 'down', was: 'active' },
  });
  expect(transition('edge', 'active', 'lagging')).toEqual({
    type: 'synced',
    body: { from: 1, to: 2, was: 'lagging' },
  });
  expect(transition('edge', 'lagging', 'active')).toBeNull();
  expect(transition('lag', 'exceeded', 'over')).toEqual({
    type: 'lag-exceeded',
    body: { from: 1, to: 2, happened: 'exceeded' },
  });
  expect(transition('lag', 'over', 'exceeded')).toMatchObject({ body: { happened: 'over' } });
  expect(transition('lag', 'over', null)).toBeNull();
});
