/**
 * When a tombstone is no longer needed, and what that means for versions that come later. Pure.
 *
 * A shard has a purge horizon on each node: a clock that only rises. A key that has nothing but a tombstone, with all that it has seen under the horizon,
 * is purged: it counts as absent, whether its tombstone still stands or not. Deleting the tombstone only frees its place.
 *
 * Invariant: when the horizon of any node rises to a clock,
 *   1. every holder of the shard has merged every write under it, and
 *   2. every write that is not merged by all of them was made by a node that had merged everything under it.
 * From 1. follows that what is under the horizon and not in what its key has seen was merged here, lost to a tombstone, and was purged with it: it is not
 * applied (a deleted row would come back), and its row is kept as a conflict record, `returned`, that a call can restore. From 2. follows that no
 * write concurrent with the tombstone is still to come: it would conflict with it on one node and find nothing on another.
 * And when a tombstone is deleted, the horizon has risen on every holder: a write of a node that has it no longer has not seen it, and would
 * conflict with it where it still counts.
 *
 * 1. and 2. are had in rounds (`nextRound`). It breaks when a holder is left out (also one that is down, joining, leaving or not cleaned), when writes that
 * are parked or put away count as merged, or when a holder has forgotten what it had merged: a node that was restored, or is filled from others, takes its
 * horizon from them only when it is full, and what is copied to it is merged as it is.
 */
import { covers, includes, join, type Clock } from './clock.ts';
import { versionsOf, type KeyState, type Stamped } from './merge.ts';
import type { HlcValue, NodeNumber } from './version.ts';

/** Of one shard on one node. It only rises. */
export interface PurgeHorizon {
  readonly clock: Clock;
  /** Above every purged version: new writes of absent keys are greater than what they may return as. */
  readonly hlc: HlcValue;
}

export const noHorizon: PurgeHorizon = Object.freeze({ clock: Object.freeze({}), hlc: 0n as HlcValue });

/** Does the key count as absent? */
export const isPurged = (
  { winner, seen, losers }: KeyState<unknown>,
  { clock }: Pick<PurgeHorizon, 'clock'>,
): boolean => winner !== null && winner.version.deleted && losers.length === 0 && includes(clock, seen);

/** The horizon up to a clock that a round gave, over the states of the shard's keys on this node. */
export function raiseHorizon(
  horizon: PurgeHorizon,
  clock: Clock,
  states: Iterable<KeyState<unknown>>,
): PurgeHorizon {
  let { hlc } = horizon;
  for (const state of states)
    if (isPurged(state, { clock }) && state.winner!.version.hlc >= hlc)
      hlc = ((state.winner!.version.hlc as bigint) + 1n) as HlcValue;
  return { clock: join(horizon.clock, clock), hlc };
}

/** What one holder of the shard answers. */
export interface HolderReport {
  /** Of each origin the counter up to which it has merged every write to the shard; nothing of that is parked or put away. */
  readonly merged: Clock;
  /** What its own counters have reached, asked after `merged`: its later writes have greater ones, and no transaction with a lesser one is still open. */
  readonly counter: number;
}

export interface PurgeRounds {
  /** The counters of all holders, each asked once that holder had merged what `done` names; everyone has to merge them for the next round. */
  readonly asked: Clock;
  readonly askedAtMs: number;
  /** What everyone has merged; null in the first round. */
  readonly done: Clock | null;
}

/**
 * A round ends when every holder has merged what was asked at its beginning. What the round before it asked is then a clock to raise the horizon to, on
 * all of them: each has made its later writes knowing all of that, and earlier ones are merged by all. `reports` names every holder; undefined for one that
 * could not be asked. If it names other holders than before, rounds begin anew. `graceMs` is how long a round takes at least, so a tombstone stays
 * for as long.
 */
export function nextRound(
  rounds: PurgeRounds | null,
  reports: ReadonlyMap<NodeNumber, HolderReport | undefined>,
  time: { readonly nowMs: number; readonly graceMs: number },
): { readonly rounds: PurgeRounds | null; readonly raiseTo: Clock | null } {
  const counters: Record<string, number> = {};
  for (const [holder, report] of reports) {
    if (report === undefined) return { rounds, raiseTo: null };
    counters[holder as number] = report.counter;
  }
  const asks = { asked: counters, askedAtMs: time.nowMs };
  if (rounds === null || !sameHolders(rounds.asked, counters))
    return { rounds: { ...asks, done: null }, raiseTo: null };
  const over =
    time.nowMs - rounds.askedAtMs >= time.graceMs &&
    [...reports.values()].every((report) => includes(report!.merged, rounds.asked));
  if (!over) return { rounds, raiseTo: null };
  return { rounds: { ...asks, done: rounds.asked }, raiseTo: rounds.done };
}

const sameHolders = (a: Clock, b: Clock): boolean =>
  Object.keys(a).length === Object.keys(b).length &&
  Object.keys(a).every((holder) => Object.hasOwn(b, holder));

export interface Admitted<R> {
  /** What the rest is merged into: the local state, or none if the key is purged. */
  readonly local: KeyState<R>;
  /** What may be merged. */
  readonly states: readonly KeyState<R>[];
  /** Rows that were purged, for records of the kind `returned`; tombstones have none. */
  readonly returned: readonly Stamped<R>[];
}

/**
 * Of what comes in for a key from a log, or from a node that was away. Whatever is under the horizon was merged here: it is in what the key has seen, unless
 * the key was purged since, and it must not count as news of it, also when the key has been written again. (A node that is filled from
 * another one has merged nothing yet: copies are not for this function.)
 */
export function admit<R>(
  local: KeyState<R>,
  incoming: readonly KeyState<R>[],
  horizon: PurgeHorizon,
): Admitted<R> {
  const purged = isPurged(local, horizon);
  const states: KeyState<R>[] = [];
  const returned: Stamped<R>[] = [];
  let { seen } = local;
  for (const state of incoming) {
    const dot = state.winner?.version.dot;
    if (dot === undefined || !covers(horizon.clock, dot)) {
      states.push(state);
      seen = join(seen, state.seen);
    } else if (covers(seen, dot)) {
      // Under a tombstone that counts no more it is nothing; else it may come with an operation that is new, and not with old dots alone.
      if (purged || includes(join(horizon.clock, seen), state.seen)) continue;
      states.push(state);
      seen = join(seen, state.seen);
    } else {
      // The greatest version of its state is purged, and so are those that lost to it.
      for (const one of versionsOf(state)) if (!one.version.deleted) returned.push(one);
    }
  }
  return { local: purged ? { winner: null, seen: {}, losers: [] } : local, states, returned };
}
