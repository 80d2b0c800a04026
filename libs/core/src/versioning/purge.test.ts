/** Purging against a model that forgets nothing: every write knows all that its node had seen, purged or not. */
import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { covers, includes, type Clock } from './clock.ts';
import { hlcFromMs } from './hlc.ts';
import { writeLocally } from './local-write.ts';
import { absentState, deltaState, mergeStates, type KeyState } from './merge.ts';
import {
  admit,
  isPurged,
  nextRound,
  noHorizon,
  raiseHorizon,
  type HolderReport,
  type PurgeHorizon,
  type PurgeRounds,
} from './purge.ts';
import type { NodeNumber } from './version.ts';

type Row = string;
type Step =
  | { readonly kind: 'write'; readonly node: number; readonly deleted: boolean; readonly nowMs: number }
  | { readonly kind: 'deliver'; readonly from: number; readonly to: number; readonly back: number }
  /** Everything arrives first, or not; then a round ends if it can, or one more node raises its horizon, or deletes what it may. */
  | { readonly kind: 'purge'; readonly node: number; readonly synced: boolean; readonly down: boolean };

const nodes = 3;
const node = fc.nat({ max: nodes - 1 });
const steps: fc.Arbitrary<Step[]> = fc.array(
  fc.oneof(
    {
      weight: 3,
      arbitrary: fc.record({
        kind: fc.constant('write' as const),
        node,
        deleted: fc.boolean(),
        nowMs: fc.nat({ max: 50 }),
      }),
    },
    {
      weight: 6,
      arbitrary: fc.record({
        kind: fc.constant('deliver' as const),
        from: node,
        to: node,
        back: fc.constantFrom(0, 0, 0, 1, 2, 3, 5),
      }),
    },
    {
      weight: 6,
      arbitrary: fc.record({
        kind: fc.constant('purge' as const),
        node,
        synced: fc.boolean(),
        down: fc.constantFrom(false, false, true),
      }),
    },
  ),
  { minLength: 5, maxLength: 100 },
);

interface Place {
  state: KeyState<Row>;
  /** Rows of all writes that this node has had, and what they had seen: what was purged is not forgotten here. */
  readonly known: Set<Row>;
  readonly log: { readonly change: KeyState<Row>; readonly history: ReadonlySet<Row> }[];
  readonly position: number[];
  readonly returned: Row[];
  horizon: PurgeHorizon;
  drawn: number;
}

function play(list: readonly Step[]) {
  const places = Array.from({ length: nodes }, (): Place => ({
    state: absentState,
    known: new Set(),
    log: [],
    position: Array.from({ length: nodes }, () => 0),
    returned: [],
    horizon: noHorizon,
    drawn: 0,
  }));
  let rounds: PurgeRounds | null = null;
  let raising: Clock | null = null;
  let written = 0;
  let purges = 0;
  const receive = (place: Place, { change, history }: Place['log'][number]): void => {
    const admitted = admit(place.state, [change], place.horizon);
    if (admitted.states.length > 0) place.state = admitted.local;
    for (const state of admitted.states) place.state = mergeStates(place.state, state);
    place.returned.push(...admitted.returned.map(({ row }) => row));
    for (const row of history) place.known.add(row);
  };
  const reportOf = (place: Place, at: number): HolderReport => {
    const merged = places.map((other, from): [string, number] => [
      String(from + 1),
      from === at
        ? place.drawn
        : (other.log[place.position[from]! - 1]?.change.winner!.version.dot.counter ?? 0),
    ]);
    return { merged: Object.fromEntries(merged), counter: place.drawn };
  };
  const everything = (): void => {
    for (const [to, place] of places.entries())
      for (const [from, other] of places.entries()) {
        if (from === to) continue;
        for (const change of other.log.slice(place.position[from])) receive(place, change);
        place.position[from] = other.log.length;
      }
  };
  const write = (step: Pick<Step & { kind: 'write' }, 'node' | 'deleted' | 'nowMs'>): void => {
    const place = places[step.node]!;
    if (step.deleted && (place.state.winner?.version.deleted ?? true)) return;
    written += 1;
    const row = `row ${written}`;
    place.state = writeLocally(place.state, {
      node: (step.node + 1) as NodeNumber,
      now: hlcFromMs(step.nowMs),
      drawn: (place.drawn += 1),
      deleted: step.deleted,
      row,
      request: null,
      purgeHorizon: place.horizon.hlc,
    }).state;
    place.known.add(row);
    place.log.push({ change: deltaState(place.state.winner!), history: new Set(place.known) });
  };
  for (const step of list) {
    switch (step.kind) {
      case 'write':
        write(step);
        break;
      case 'deliver': {
        const [from, to] = [places[step.from]!, places[step.to]!];
        if (from === to) break;
        const at = to.position[step.from]!;
        // Now and then something comes again that was delivered before.
        const repeated = step.back > 0 && at >= step.back;
        const change = from.log[repeated ? at - step.back : at];
        if (change === undefined) break;
        if (!repeated) to.position[step.from] = at + 1;
        receive(to, change);
        break;
      }
      case 'purge': {
        if (step.synced) {
          everything();
          write({ node: step.node, deleted: true, nowMs: 0 });
        }
        for (let round = 0; round < (step.synced ? 3 : 1) && raising === null; round += 1) {
          if (step.synced) everything();
          const reports = new Map(
            places.map((place, at) => [
              (at + 1) as NodeNumber,
              step.down && at === step.node ? undefined : reportOf(place, at),
            ]),
          );
          const next = nextRound(rounds, reports, { nowMs: 0, graceMs: 0 });
          rounds = next.rounds;
          raising = next.raiseTo;
        }
        if (raising === null) break;
        if (step.synced)
          for (const place of places.slice(step.node))
            place.horizon = raiseHorizon(place.horizon, raising, [place.state]);
        const behind = places.find((place) => !includes(place.horizon.clock, raising!));
        if (behind !== undefined) {
          behind.horizon = raiseHorizon(behind.horizon, raising, [behind.state]);
          break;
        }
        const place = places[step.node]!;
        if (isPurged(place.state, { clock: raising })) {
          place.state = absentState;
          purges += 1;
        }
        if (step.synced) raising = null;
      }
    }
  }
  everything();
  // Whoever follows the one that raised it on some nodes does so on all.
  for (const place of places)
    if (raising !== null) place.horizon = raiseHorizon(place.horizon, raising, [place.state]);
  return { places, purges };
}

/** A tombstone that counts no more may be gone on some nodes and stand on others. */
const standing = ({ state, horizon }: Pick<Place, 'state' | 'horizon'>) =>
  isPurged(state, horizon) ? null : state.winner;
const rowsOf = (losers: KeyState<Row>['losers']): Row[] => losers.map(({ row }) => row).sort();

test('no deleted or overwritten row comes back, no later write is held back, and all nodes end alike', () => {
  let purges = 0;
  let returned = 0;
  fc.assert(
    fc.property(steps, (list) => {
      const { places, purges: done } = play(list);
      purges += done;
      const writes = places.flatMap(({ log }) =>
        log.map(({ change, history }) => ({
          row: change.winner!.row,
          deleted: change.winner!.version.deleted,
          history,
        })),
      );
      const unseen = writes.filter(
        (one) => !writes.some((other) => other !== one && other.history.has(one.row)),
      );
      for (const { state, horizon, returned: rows } of places) {
        returned += rows.length;
        const winner = standing({ state, horizon });
        if (winner !== null) expect(unseen.map(({ row }) => row)).toContain(winner.row);
        else expect(unseen.filter(({ deleted }) => !deleted)).toEqual([]);
        expect(winner?.row ?? null).toBe(standing(places[0]!)?.row ?? null);
        if (winner !== null) expect(state.seen).toEqual(places[0]!.state.seen);
        expect(rowsOf(state.losers)).toEqual(rowsOf(places[0]!.state.losers));
        for (const row of rows) expect(unseen.map((one) => one.row)).not.toContain(row);
      }
    }),
    { numRuns: 4000 },
  );
  expect(purges).toBeGreaterThan(100);
  expect(returned).toBeGreaterThan(2);
});

describe('a version under the horizon', () => {
  const write = (state: KeyState<Row>, drawn: number, deleted: boolean): KeyState<Row> =>
    writeLocally(state, {
      node: 1 as NodeNumber,
      now: hlcFromMs(drawn),
      drawn,
      deleted,
      row: `row ${drawn}`,
      request: null,
      purgeHorizon: null,
    }).state;
  const live = write(absentState, 1, false);
  const gone = write(live, 2, true);
  const horizon = raiseHorizon(noHorizon, gone.seen, [gone]);

  test('is kept as returned when its key is absent, and a tombstone as nothing', () => {
    expect(covers(horizon.clock, live.winner!.version.dot)).toBe(true);
    expect(admit(absentState, [deltaState(live.winner!)], horizon)).toMatchObject({
      states: [],
      returned: [live.winner],
    });
    expect(admit(absentState, [deltaState(gone.winner!)], horizon)).toMatchObject({
      states: [],
      returned: [],
    });
  });

  test('counts for nothing while the tombstone still stands', () => {
    expect(admit<Row>(gone, [deltaState(live.winner!), deltaState(gone.winner!)], horizon)).toEqual({
      local: absentState,
      states: [],
      returned: [],
    });
  });

  test('is nothing new where the key lives, and neither where it was written again without having seen it', () => {
    const delta = deltaState(live.winner!);
    const again = write(gone, 3, false);
    expect(admit<Row>(again, [delta], horizon)).toEqual({ local: again, states: [], returned: [] });
    const elsewhere = { ...again, seen: { 2: 1 } };
    expect(admit<Row>(elsewhere, [delta], horizon)).toMatchObject({ states: [], returned: [live.winner] });
    expect(admit<Row>(elsewhere, [deltaState(gone.winner!)], horizon)).toMatchObject({
      states: [],
      returned: [],
    });
  });

  test('is less than any new write, whatever the wall clock says', () => {
    const again = writeLocally<Row>(absentState, {
      node: 2 as NodeNumber,
      now: hlcFromMs(0),
      drawn: 1,
      deleted: false,
      row: 'new',
      request: null,
      purgeHorizon: horizon.hlc,
    }).state;
    expect(again.winner!.version.hlc).toBeGreaterThan(gone.winner!.version.hlc);
  });
});

describe('a tombstone counts', () => {
  const tombstone = writeLocally<Row>(absentState, {
    node: 1 as NodeNumber,
    now: hlcFromMs(1),
    drawn: 1,
    deleted: true,
    row: '',
    request: null,
    purgeHorizon: null,
  }).state;

  test('until all that it has seen is under the horizon', () => {
    expect(isPurged(tombstone, { clock: { 1: 1 } })).toBe(true);
    expect(isPurged(tombstone, { clock: { 2: 1 } })).toBe(false);
    expect(isPurged({ ...tombstone, seen: { 1: 1, 2: 5 } }, { clock: { 1: 1, 2: 4 } })).toBe(false);
  });

  test('while a loser is open', () => {
    const loser = {
      version: { ...tombstone.winner.version, dot: { origin: 2 as NodeNumber, counter: 1 } },
      row: '',
    };
    expect(isPurged({ ...tombstone, losers: [loser] }, { clock: { 1: 1, 2: 1 } })).toBe(false);
  });
});

describe('a horizon is raised', () => {
  const holders = (merged: Clock, counters: readonly (number | undefined)[]) =>
    new Map(
      counters.map((counter, at) => [
        (at + 1) as NodeNumber,
        counter === undefined ? undefined : { merged, counter },
      ]),
    );
  const time = { nowMs: 0, graceMs: 0 };
  const begun = nextRound(null, holders({}, [5, 7]), time).rounds;
  const second = nextRound(begun, holders({ 1: 5, 2: 7 }, [6, 7]), time).rounds;

  test('to what the round before had asked, once everyone has merged what this one asked', () => {
    expect(nextRound(begun, holders({ 1: 5, 2: 7 }, [6, 7]), time).raiseTo).toBe(null);
    expect(nextRound(second, holders({ 1: 6, 2: 7 }, [8, 9]), time)).toEqual({
      raiseTo: { 1: 5, 2: 7 },
      rounds: { asked: { 1: 8, 2: 9 }, askedAtMs: 0, done: { 1: 6, 2: 7 } },
    });
  });

  test('not while one holder is behind or can not be asked, nor before the grace period is over', () => {
    const waits = { rounds: second, raiseTo: null };
    expect(nextRound(second, holders({ 1: 5, 2: 7 }, [8, 9]), time)).toEqual(waits);
    expect(nextRound(second, holders({ 1: 9, 2: 9 }, [8, undefined]), time)).toEqual(waits);
    expect(nextRound(second, holders({ 1: 9, 2: 9 }, [8, 9]), { nowMs: 9, graceMs: 10 })).toEqual(waits);
  });

  test('from the beginning when the holders change', () => {
    const { rounds, raiseTo } = nextRound(second, holders({ 1: 9, 2: 9, 3: 9 }, [8, 9, 9]), time);
    expect({ done: rounds!.done, raiseTo }).toEqual({ done: null, raiseTo: null });
  });
});
