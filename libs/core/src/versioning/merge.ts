/**
 * Merging the states of one key. Pure.
 *
 * A state is a winner, what has been seen, and the open losers: concurrent writes that lost and that no version has seen since. It is a
 * dotted version vector set: a dot within `seen` that is not among the versions is one that this side knows to be gone. So a version survives a
 * merge when the other side holds it too, or has not seen it. Nothing else removes one, which is why merging is commutative,
 * associative and idempotent (merge.property.test.ts), and delivery in any order, with repetition, ends in one state.
 *
 * Rows are opaque: the caller says where a version's row is to be found (`R`), the merge only carries it along.
 *
 * Invariants: the clock of every version in a state is within `seen`; no version in a state covers another one of it; the winner is the
 * greatest of them. Since a write is always greater than what it has seen (local-write.ts), the winner is also the greatest version ever merged:
 * which row stands never depends on the order of delivery nor on what is remembered of requests.
 */
import { PgquorumError } from '../errors/error.ts';
import { covers, emptyClock, join, type Clock } from './clock.ts';
import { compareVersions, dotText, sameDot, type Dot, type HlcValue, type Version } from './version.ts';

export interface Stamped<R> {
  readonly version: Version;
  readonly row: R;
}

export interface KeyState<R> {
  readonly winner: Stamped<R> | null;
  readonly seen: Clock;
  readonly losers: readonly Stamped<R>[];
}

export const absentState: KeyState<never> = Object.freeze({
  winner: null,
  seen: emptyClock,
  losers: Object.freeze([]) as readonly never[],
});

/** A change from a log: a state with `seen` = the write's clock and no losers. */
export const deltaState = <R>(write: Stamped<R>): KeyState<R> => ({
  winner: write,
  seen: write.version.clock,
  losers: [],
});

/** One write of a request: what orders the writes of one request among themselves. */
export interface RequestWrite {
  readonly dot: Dot;
  readonly hlc: HlcValue;
}

/**
 * Writes known to be one: a gateway request that was repeated on another coordinator. Keys are request ids; the map holds those of one key.
 *
 * Of the writes of one request only the greatest can be an open loser. The hlc is needed because that one may be overwritten, and so forgotten
 * by the state, before a lesser one arrives. A third write that has seen only one of them is concurrent with the other and leaves a
 * record. It would be nicer to say that it has seen both, but that is not safe: when two requests are each repeated on the other's node, each
 * has then seen the other, and masters that learn this in different orders drop different rows.
 */
export type KnownRequests = ReadonlyMap<string, readonly RequestWrite[]>;
export const noRequests: KnownRequests = new Map();

/**
 * Merges two states of one key. Whatever both hold is taken from `a`. Given the same `requests`, and those of both sides within, the result does
 * not depend on the order of merging; lacking some, it may keep an open loser that others do not have, never another winner.
 */
export function mergeStates<R>(
  a: KeyState<R>,
  b: KeyState<R>,
  requests: KnownRequests = noRequests,
): KeyState<R> {
  const seen = join(a.seen, b.seen);
  const ours = versionsOf(a);
  const theirs = versionsOf(b);
  const open = [
    ...ours.filter((one) => !covers(b.seen, one.version.dot) || holds(theirs, one.version.dot)),
    ...theirs.filter((one) => !covers(a.seen, one.version.dot) && !holds(ours, one.version.dot)),
  ];
  const [winner, ...losers] = open.sort((x, y) => compareVersions(y.version, x.version));
  if (winner !== undefined)
    return { winner, seen, losers: losers.filter((one) => !repeated(one.version, ours, theirs, requests)) };
  if (ours.length + theirs.length === 0) return { winner: null, seen, losers: [] };
  throw new PgquorumError(
    'invariant_broken',
    `of the versions ${[...ours, ...theirs].map((one) => dotText(one.version.dot)).join(', ')} of a key each is gone on the other side`,
  );
}

export const versionsOf = <R>(state: KeyState<R>): readonly Stamped<R>[] =>
  state.winner === null ? state.losers : [state.winner, ...state.losers];

const holds = <R>(versions: readonly Stamped<R>[], dot: Dot): boolean =>
  versions.some((one) => sameDot(one.version.dot, dot));

/** Is a greater write of the same request known? */
function repeated<R>(
  one: Version,
  ours: readonly Stamped<R>[],
  theirs: readonly Stamped<R>[],
  requests: KnownRequests,
): boolean {
  if (one.request === null) return false;
  const greater = (other: Stamped<R>): boolean =>
    other.version.request === one.request && compareWrites(other.version, one) > 0;
  return (
    ours.some(greater) ||
    theirs.some(greater) ||
    (requests.get(one.request)?.some((other) => compareWrites(other, one) > 0) ?? false)
  );
}

function compareWrites(a: RequestWrite, b: RequestWrite): number {
  if (a.hlc !== b.hlc) return a.hlc < b.hlc ? -1 : 1;
  if (a.dot.origin !== b.dot.origin) return a.dot.origin - b.dot.origin;
  return a.dot.counter - b.dot.counter;
}

/** What happened between a winner and a loser, for the conflict log: the winner's side first. */
export type ConflictKind =
  'update-update' | 'update-delete' | 'delete-update' | 'delete-delete' | 'insert-insert';

export function conflictKind(winner: Version, loser: Version): ConflictKind {
  if (winner.deleted) return loser.deleted ? 'delete-delete' : 'delete-update';
  if (loser.deleted) return 'update-delete';
  return Object.keys(winner.clock).some((node) => node in loser.clock) ? 'update-update' : 'insert-insert';
}
