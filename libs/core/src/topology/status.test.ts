import { expect, test } from '@jest/globals';
import { replicaStatuses } from './replica-status.ts';
import {
  edges,
  health,
  nodeStatus,
  notReadyReasons,
  withClockOffsets,
  type NodeFacts,
  type NodeReport,
} from './status.ts';

const limits = { failureTimeoutMs: 5000, lagReadyMaxMs: 1000, clockDriftMaxMs: 500, walBudgetBytes: 0 };
const nowMs = 1_000_000;

const report = (number: number, facts: Partial<NodeFacts> | null): NodeReport => ({
  name: `n${number}`,
  number,
  zone: 'z',
  problem: null,
  clockOffsetMs: null,
  facts:
    facts === null
      ? null
      : {
          nowMs,
          filling: false,
          writable: true,
          flushPosition: '1000',
          heartbeatMs: nowMs,
          dot: 100,
          pulses: [],
          sources: [],
          progress: [],
          slots: [1, 2, 3].map((origin) => ({
            name: `slot_${origin}`,
            active: true,
            confirmed: null,
            kept: 0,
          })),
          pauses: [],
          parked: [],
          shards: 1,
          joining: 0,
          leaving: 0,
          openConflicts: 0,
          deadLetters: 0,
          limits: null,
          number,
          members: [],
          identity: null,
          clocks: null,
          ...facts,
        },
});
const wal = (origin: number) => ({
  origin,
  log: 'wal',
  state: 'ready',
  slot: `slot_${origin}`,
  problem: null,
});
const progress = (origin: number, log: string, commitTimeMs: number | null) => ({
  origin,
  log,
  commitTimeMs,
  changes: '1',
});

test('lag is measured by the clock of the origin, which stamped the commits', () => {
  const behind = report(1, {
    nowMs: nowMs + 60_000,
    slots: [{ name: 'slot_1', active: true, confirmed: '400', kept: 700 }],
  });
  const [toTwo] = edges(
    [behind, report(2, { sources: [wal(1)], progress: [progress(1, 'wal', nowMs + 59_800)] })],
    limits,
    nowMs,
  ).filter((edge) => edge.to === 'n2');
  expect(toTwo).toMatchObject({ ms: 200, bytes: 600, state: 'active' });
});

test('with Kafka a feed that does not run holds up every edge of its origin', () => {
  const kafka = (origin: number) => ({ origin, log: 'kafka', state: 'ready', slot: null, problem: null });
  const feed = {
    origin: 1,
    log: 'capture',
    state: 'ready',
    slot: 'feed',
    problem: 'slot_in_use: by another',
  };
  const reports = [
    report(1, {
      sources: [feed, kafka(2)],
      slots: [{ name: 'feed', active: false, confirmed: '990', kept: 10 }],
      progress: [progress(2, 'kafka', nowMs)],
    }),
    report(2, { sources: [kafka(1)], progress: [progress(1, 'kafka', nowMs)] }),
  ];
  const found = edges(reports, limits, nowMs);
  expect(found).toMatchObject([
    { from: 'n2', to: 'n1', state: 'active' },
    { from: 'n1', to: 'n2', state: 'down', problem: 'slot_in_use: by another', bytes: 10 },
  ]);
  expect(notReadyReasons(reports, found)).toEqual(['n1 to n2: slot_in_use: by another']);
});

test('a node that is down makes its edges down, but not the others unready', () => {
  const both = (number: number, other: number) =>
    report(number, {
      sources: [wal(other), wal(3)],
      progress: [progress(other, 'wal', nowMs), progress(3, 'wal', 0)],
    });
  const reports = [both(1, 2), both(2, 1), report(3, null)];
  const found = edges(reports, limits, nowMs);
  expect(found.filter((edge) => edge.state === 'down')).toHaveLength(4);
  expect(notReadyReasons(reports, found)).toEqual([]);
  expect(health(reports, found, limits)).toEqual({
    status: 'degraded',
    healthyNodes: 2,
    totalNodes: 3,
    problems: ['node n3 can not be reached'],
  });
  expect(replicaStatuses(reports, found, nowMs)).toMatchObject([
    { status: 'active', lagMs: 0 },
    { status: 'active' },
    { status: 'down', lagMs: null, lastSync: null },
  ]);
});

test('without a node that can be written nothing is ready', () => {
  const reports = [report(1, { writable: false }), report(2, null)];
  expect(notReadyReasons(reports, [])).toEqual(['no node can be written']);
  expect(health(reports, [], limits).status).toBe('unavailable');
});

test.each([
  [null, 'down'],
  [{ heartbeatMs: nowMs - 4999 }, 'alive'],
  [{ filling: true }, 'joining'],
  [{ filling: true, heartbeatMs: nowMs - 60_000 }, 'suspect'],
  [{ heartbeatMs: nowMs - 5001 }, 'suspect'],
  [{ heartbeatMs: null }, 'alive'],
] as const)('a node with %j is %s', (facts, status) => {
  expect(nodeStatus(report(1, facts), limits)).toBe(status);
});

test.each([
  ['idle: the last heartbeat is applied', nowMs - 900, 0],
  ['a heartbeat behind', nowMs - 1500, 40],
  ['stuck for longer than the past is kept: at least so many', nowMs - 9_000_000, 90],
])('changes behind, %s', (_, appliedMs, expected) => {
  const origin = report(1, {
    pulses: [
      [nowMs - 5000, 10],
      [nowMs - 2000, 60],
      [nowMs - 1000, 100],
    ],
  });
  const [toTwo] = edges(
    [origin, report(2, { sources: [wal(1)], progress: [progress(1, 'wal', appliedMs)] })],
    limits,
    nowMs,
  ).filter((edge) => edge.from === 'n1');
  expect(toTwo!.changes).toBe(expected);
});

test('what waits aside is counted beside what has not come yet, and a health problem when it waits for long', () => {
  const waiting = (ageMs: number, pauses: NodeFacts['pauses'] = []) => [
    report(1, { pulses: [[nowMs - 2000, 90]] }),
    report(2, {
      sources: [wal(1)],
      progress: [progress(1, 'wal', nowMs - 500)],
      parked: [{ origin: 1, count: 3, oldestMs: nowMs - ageMs }],
      pauses,
    }),
  ];
  const toTwo = (reports: NodeReport[]) => edges(reports, limits, nowMs).filter((edge) => edge.from === 'n1');
  const long = waiting(2000);
  expect(toTwo(long)).toMatchObject([{ state: 'active', changes: 13, parked: 3, parkedMs: 2000 }]);
  const problems = (reports: NodeReport[]) => health(reports, toTwo(reports), limits).problems;
  expect(problems(long)).toEqual(['n1 to n2: 3 changes wait aside, the oldest for 2000 ms']);
  expect(problems(waiting(900))).toEqual([]);
  const paused = waiting(2000, [{ origin: 1, collection: 'docs', code: 'schema_drift' }]);
  expect(problems(paused)).toEqual(['n1 to n2: collection docs is paused: schema_drift']);
});

test('a paused collection does not hide that the edge does not move', () => {
  const reports = [
    report(1, {}),
    report(2, {
      sources: [wal(1)],
      progress: [progress(1, 'wal', nowMs - 5000)],
      pauses: [{ origin: 1, collection: 'docs', code: 'schema_drift' }],
    }),
  ];
  const [toTwo] = edges(reports, limits, nowMs).filter((edge) => edge.from === 'n1');
  expect(toTwo).toMatchObject({ state: 'lagging' });
  expect(notReadyReasons(reports, [toTwo!])).toEqual(['n1 to n2: collection docs is paused: schema_drift']);
});

test.each([
  [{ sources: [{ ...wal(1), state: 'creating' }] }, 'joining'],
  [{ sources: [wal(1)] }, 'syncing'],
  [{ sources: [wal(1)], progress: [progress(1, 'wal', nowMs)] }, 'active'],
  [{ sources: [wal(1)], progress: [progress(1, 'wal', nowMs)], joining: 1 }, 'joining'],
  [{ sources: [wal(1)], progress: [progress(1, 'wal', nowMs)], leaving: 1 }, 'leaving'],
  [{ sources: [{ ...wal(1), problem: 'position_lost: x' }] }, 'resync'],
  [{ sources: [{ ...wal(1), problem: 'slot_in_use: x' }] }, 'down'],
  [{}, 'down'],
] as const)('a replica with %j is %s', (facts, status) => {
  const reports = [report(1, {}), report(2, facts)];
  expect(replicaStatuses(reports, edges(reports, limits, nowMs), nowMs)[1]!.status).toBe(status);
});

test('an edge whose slot is gone is to be resynced, and WAL beyond the budget is a problem, whoever it is kept for', () => {
  const following = report(2, { sources: [wal(1)], progress: [progress(1, 'wal', nowMs)] });
  const gone = [report(1, { slots: [] }), following];
  expect(edges(gone, limits, nowMs).find((edge) => edge.from === 'n1')).toMatchObject({
    state: 'resync',
    problem: 'position_lost: slot slot_1 is missing on n1',
    kept: null,
  });
  const slots = [{ name: 'slot_1', active: false, confirmed: '1', kept: 5000 }];
  const kept = [report(1, { slots }), report(2, null)];
  const problems = (walBudgetBytes: number) => health(kept, [], { ...limits, walBudgetBytes }).problems;
  expect(problems(0)).toEqual(problems(5000));
  expect(problems(4999)).toContain(
    'node n1 keeps 5000 bytes of WAL for slot slot_1, more than the budget of 4999',
  );
});

test('dead letters degrade the cluster: a node differs from the others in their keys', () => {
  const reports = [report(1, {}), report(2, { deadLetters: 2 })];
  expect(health(reports, [], limits)).toMatchObject({
    status: 'degraded',
    problems: ['node n2 keeps 2 changes that it can not apply as dead letters'],
  });
  expect(notReadyReasons(reports, [])).toEqual([]);
});

describe('clocks', () => {
  const found = { 1: [0, 1], 2: [0.4, 1], 3: [-86_400_000, 1] } as const;
  const three = (atMs: number) =>
    withClockOffsets(
      [1, 2, 3].map((number) => report(number, { clocks: { atMs, found } })),
      limits,
    );

  test('a node whose clock is too far off is degraded and named, and replication is as ready as before', () => {
    const reports = three(nowMs);
    expect(reports.map((one) => one.clockOffsetMs)).toEqual([0, 0.4, -86_400_000]);
    expect(reports.map((one) => nodeStatus(one, limits))).toEqual(['alive', 'alive', 'degraded']);
    expect(health(reports, [], limits)).toEqual({
      status: 'degraded',
      healthyNodes: 2,
      totalNodes: 3,
      problems: [
        'clock_drift: the clock of node n3 is 86400000 ms behind the median of the nodes, more than 500 ms',
      ],
    });
    expect(notReadyReasons(reports, [])).toEqual([]);
  });

  test('findings that are old, or of a time before the clock was set, say nothing', () => {
    for (const atMs of [nowMs - 60_000, nowMs + 3_600_000])
      expect(three(atMs).map((one) => one.clockOffsetMs)).toEqual([null, null, null]);
  });

  test('a node that can not be reached has no offset, though others have seen its clock', () => {
    const reports = withClockOffsets(
      [report(1, { clocks: { atMs: nowMs, found } }), report(2, {}), report(3, null)],
      limits,
    );
    expect(reports.map((one) => one.clockOffsetMs)).toEqual([0, 0.4, null]);
  });
});

test('edges of a node that may not be the one that others remember are down, and say so', () => {
  const reports = [
    report(1, { sources: [wal(2)] }),
    report(2, { sources: [wal(1)], identity: 'it was cloned' }),
  ];
  expect(edges(reports, limits, nowMs).map(({ state, problem }) => [state, problem])).toEqual([
    ['down', 'n2: it was cloned'],
    ['down', 'n2: it was cloned'],
  ]);
});
