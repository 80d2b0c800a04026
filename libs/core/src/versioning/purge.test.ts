/** Purging against a model that forgets nothing: every write knows all that its node had seen, purged or not. */
import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { covers } from './clock.ts';
import { hlcFromMs } from './hlc.ts';
import { writeLocally } from './local-write.ts';
import { absentState, deltaState, mergeStates, type KeyState } from './merge.ts';
import { admit, joinHorizons, mayPurge, noHorizon, raiseHorizon, type PurgeHorizon } from './purge.ts';
import type { NodeNumber } from './version.ts';

type Row = string;
type Step =
  | { readonly kind: 'write'; readonly node: number; readonly deleted: boolean; readonly nowMs: number }
  | { readonly kind: 'deliver'; readonly from: number; readonly to: number; readonly back: number }
  | { readonly kind: 'purge'; readonly verified: boolean };

const nodes = 3;
const graceMs = 10;
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
        back: fc.constantFrom(0, 0, 1, 2, 3),
      }),
    },
    { weight: 2, arbitrary: fc.record({ kind: fc.constant('purge' as const), verified: fc.boolean() }) },
  ),
  { minLength: 5, maxLength: 80 },
);

interface Place {
  state: KeyState<Row>;
  /** Rows of all writes that this node has had, and what they had seen: what was purged is not forgotten here. */
  readonly known: Set<Row>;
  readonly log: { readonly change: KeyState<Row>; readonly history: ReadonlySet<Row> }[];
  readonly position: number[];
  readonly returned: Row[];
}

function play(list: readonly Step[]) {
  const places = Array.from({ length: nodes }, (): Place => ({
    state: absentState,
    known: new Set(),
    log: [],
    position: Array.from({ length: nodes }, () => 0),
    returned: [],
  }));
  let horizon: PurgeHorizon = noHorizon;
  let drawn = 0;
  let purges = 0;
  const receive = (place: Place, { change, history }: Place['log'][number]): void => {
    const admitted = admit(place.state, [change], horizon);
    for (const state of admitted.states) place.state = mergeStates(place.state, state);
    place.returned.push(...admitted.returned.map(({ row }) => row));
    for (const row of history) place.known.add(row);
  };
  const everything = (): void => {
    for (const [to, place] of places.entries())
      for (const [from, other] of places.entries()) {
        if (from === to) continue;
        for (const change of other.log.slice(place.position[from])) receive(place, change);
        place.position[from] = other.log.length;
      }
  };
  for (const step of list) {
    switch (step.kind) {
      case 'write': {
        const place = places[step.node]!;
        if (step.deleted && (place.state.winner?.version.deleted ?? true)) break;
        drawn += 1;
        const row = `row ${drawn}`;
        place.state = writeLocally(place.state, {
          node: (step.node + 1) as NodeNumber,
          now: hlcFromMs(step.nowMs),
          drawn,
          deleted: step.deleted,
          row,
          request: null,
          purgeHorizon: horizon.hlc,
        }).state;
        place.known.add(row);
        place.log.push({ change: deltaState(place.state.winner!), history: new Set(place.known) });
        break;
      }
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
        if (step.verified) everything();
        const tombstone = places[0]!.state.winner?.version;
        const holders = places.map((place) => place.state);
        if (
          tombstone === undefined ||
          !mayPurge(tombstone, holders, { nowMs: graceMs, verifiedAtMs: 0, graceMs })
        )
          break;
        horizon = joinHorizons(horizon, raiseHorizon(horizon, holders));
        for (const place of places) place.state = absentState;
        purges += 1;
        break;
      }
    }
  }
  everything();
  return { places, purges, horizon };
}

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
      for (const { state, returned: rows } of places) {
        returned += rows.length;
        const { winner } = state;
        if (winner !== null) expect(unseen.map(({ row }) => row)).toContain(winner.row);
        else expect(unseen.filter(({ deleted }) => !deleted)).toEqual([]);
        expect(winner?.row ?? null).toBe(places[0]!.state.winner?.row ?? null);
        for (const row of rows) expect(unseen.map((one) => one.row)).not.toContain(row);
      }
    }),
    { numRuns: 2000 },
  );
  expect(purges).toBeGreaterThan(50);
  expect(returned).toBeGreaterThan(5);
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
  const horizon = raiseHorizon(noHorizon, [gone]);

  test('is kept as returned when its key is absent, and a tombstone as nothing', () => {
    expect(covers(horizon.clock, live.winner!.version.dot)).toBe(true);
    expect(admit(absentState, [deltaState(live.winner!)], horizon)).toEqual({
      states: [],
      returned: [live.winner],
    });
    expect(admit(absentState, [deltaState(gone.winner!)], horizon)).toEqual({ states: [], returned: [] });
  });

  test('is merged where the key has seen it, and is nothing new to a key that was written again', () => {
    const delta = deltaState(live.winner!);
    expect(admit<Row>(gone, [delta], horizon)).toEqual({ states: [delta], returned: [] });
    const again = write(absentState, 3, false);
    expect(covers(again.seen, gone.winner!.version.dot)).toBe(true); // one node wrote all of it
    const elsewhere = { ...again, seen: { 2: 1 } };
    expect(admit<Row>(elsewhere, [delta], horizon)).toEqual({ states: [], returned: [live.winner] });
    expect(admit<Row>(elsewhere, [deltaState(gone.winner!)], horizon)).toEqual({ states: [], returned: [] });
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

describe('a tombstone stays', () => {
  const written = writeLocally<Row>(absentState, {
    node: 1 as NodeNumber,
    now: hlcFromMs(1),
    drawn: 1,
    deleted: true,
    row: '',
    request: null,
    purgeHorizon: null,
  }).state;
  const tombstone = written.winner!.version;
  const time = { nowMs: 100, verifiedAtMs: 0, graceMs: 100 };

  test('until every holder has been verified past it', () => {
    expect(mayPurge(tombstone, [written, written], time)).toBe(true);
    expect(mayPurge(tombstone, [written, undefined], time)).toBe(false);
    expect(mayPurge(tombstone, [written, absentState], time)).toBe(false);
    expect(mayPurge(tombstone, [], time)).toBe(false);
  });

  test('through the grace period', () => {
    expect(mayPurge(tombstone, [written], { ...time, nowMs: 99 })).toBe(false);
  });

  test('while a loser is open, or one holder has seen more', () => {
    const loser = { version: { ...tombstone, dot: { origin: 2 as NodeNumber, counter: 1 } }, row: '' };
    expect(mayPurge(tombstone, [written, { ...written, losers: [loser] }], time)).toBe(false);
    expect(mayPurge(tombstone, [written, { ...written, seen: { ...written.seen, 2: 5 } }], time)).toBe(false);
  });
});
