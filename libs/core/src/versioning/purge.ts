/**
 * When tombstones may go, and what that means for versions that come later. Pure.
 *
 * Invariant: a version that some holder of the shard has not merged is never under the purge horizon. So what is under it, and is not in what its key has
 * seen, was merged by everyone, lost to a tombstone, and was purged with it: it is not applied (a deleted row would come back), and its row is kept as a
 * conflict record, `returned`, that a call can restore. It comes from a node that was restored, cloned, or away for longer than the grace period.
 *
 * It breaks when a tombstone is purged that one holder has not merged (a row that it holds alive would come back from there), or when the horizon
 * is raised by more than was merged everywhere (a write that nobody has had yet would count as purged).
 */
import { covers, includes, join, type Clock } from './clock.ts';
import { versionsOf, type KeyState, type Stamped } from './merge.ts';
import { sameDot, type HlcValue, type Version } from './version.ts';

/** Of one shard. It only rises. */
export interface PurgeHorizon {
  readonly clock: Clock;
  /** No new write may be under it: it would lose to a purged version that returns elsewhere. */
  readonly hlc: HlcValue;
}

export const noHorizon: PurgeHorizon = Object.freeze({ clock: Object.freeze({}), hlc: 0n as HlcValue });

/** What one holder of the shard has of a key; undefined when it was not asked, cannot answer, or has never been verified. */
export type HeldState = Pick<KeyState<unknown>, 'winner' | 'seen' | 'losers'> | undefined;

/**
 * May the tombstone go? `holders` are the states of every holder of the shard: joining, leaving, down and uncleaned ones too. All of them must have merged the
 * same, nothing may be open, and the grace period must be over.
 */
export function mayPurge(
  tombstone: Version,
  holders: readonly HeldState[],
  time: { readonly nowMs: number; readonly verifiedAtMs: number; readonly graceMs: number },
): boolean {
  if (!tombstone.deleted || holders.length === 0) return false;
  if (time.nowMs - time.verifiedAtMs < time.graceMs) return false;
  const first = holders[0];
  return holders.every(
    (held) =>
      held?.winner != null &&
      held.losers.length === 0 &&
      sameDot(held.winner.version.dot, tombstone.dot) &&
      includes(held.seen, first!.seen) &&
      includes(first!.seen, held.seen),
  );
}

/** The horizon over the purged states as well. */
export function raiseHorizon(
  horizon: PurgeHorizon,
  purged: readonly Pick<KeyState<unknown>, 'winner' | 'seen'>[],
): PurgeHorizon {
  let { clock, hlc } = horizon;
  for (const { winner, seen } of purged) {
    clock = join(clock, seen);
    if (winner !== null && winner.version.hlc >= hlc) hlc = ((winner.version.hlc as bigint) + 1n) as HlcValue;
  }
  return { clock, hlc };
}

export const joinHorizons = (a: PurgeHorizon, b: PurgeHorizon): PurgeHorizon => ({
  clock: join(a.clock, b.clock),
  hlc: a.hlc > b.hlc ? a.hlc : b.hlc,
});

export interface Admitted<R> {
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
  { clock }: PurgeHorizon,
): Admitted<R> {
  const states: KeyState<R>[] = [];
  const returned: Stamped<R>[] = [];
  let { seen } = local;
  for (const state of incoming) {
    const dot = state.winner?.version.dot;
    if (dot === undefined || !covers(clock, dot) || covers(seen, dot)) {
      states.push(state);
      seen = join(seen, state.seen);
    } else {
      // The greatest version of its state is purged, and so are those that lost to it.
      for (const one of versionsOf(state)) if (!one.version.deleted) returned.push(one);
    }
  }
  return { states, returned };
}
