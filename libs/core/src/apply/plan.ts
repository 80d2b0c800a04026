/**
 * Planning in pure code: what the merge of incoming changes into one key's local state means for the tables. The transaction that carries
 * it out is transaction.pg.ts; the simulation runs this very function.
 */
import { sameCrdt, type CrdtState } from '../versioning/crdt/state.ts';
import { covers, join, sameClock, type Clock } from '../versioning/clock.ts';
import {
  conflictKind,
  isOperation,
  isSeenByWrite,
  mergeStates,
  versionsOf,
  type ConflictKind,
  type KeyState,
  type KnownRequests,
  type RememberedRequest,
  type RequestWrite,
  type Stamped,
} from '../versioning/merge.ts';
import { admit, noHorizon, type PurgeHorizon } from '../versioning/purge.ts';
import { sameDot, type Dot, type Version } from '../versioning/version.ts';

/** Where the row of a version is to be found while merging. */
export type RowSource =
  | { readonly kind: 'local' }
  | { readonly kind: 'record'; readonly dot: Dot }
  | { readonly kind: 'incoming'; readonly at: number };

/** What came in of a key: a state, and what it tells of requests of writes that it does not hold. */
export interface ReceivedState extends KeyState<RowSource> {
  readonly requests?: readonly RememberedRequest[];
}

export interface NewLoser {
  readonly kind: ConflictKind;
  readonly loser: Stamped<RowSource>;
  readonly winner: Version;
}

export interface KeyPlan {
  /** What the row and the version become; null when the winner stays. */
  readonly winner: Stamped<RowSource> | null;
  /** The new `seen`; null when it stays and the winner too. */
  readonly seen: Clock | null;
  /** The state of the CRDT fields; undefined when it stays. */
  readonly crdt: CrdtState | undefined;
  readonly newLosers: readonly NewLoser[];
  /** Dots of open records that something has seen now. */
  readonly superseded: readonly Dot[];
  /** Dots of open records of operations that count again, since the row lives after all. They may be undone once more. */
  readonly withdrawn: readonly Dot[];
  /** Rows that were purged and came once more: not applied, kept in records. */
  readonly returned: readonly Stamped<RowSource>[];
}

/** True when nothing at all has to be written for the key. */
export const isNothing = (plan: KeyPlan): boolean =>
  plan.winner === null &&
  plan.seen === null &&
  plan.crdt === undefined &&
  plan.newLosers.length === 0 &&
  plan.superseded.length === 0 &&
  plan.withdrawn.length === 0 &&
  plan.returned.length === 0;

const nothing: KeyPlan = Object.freeze({
  winner: null,
  seen: null,
  crdt: undefined,
  newLosers: [],
  superseded: [],
  withdrawn: [],
  returned: [],
});

/**
 * Merges `incoming`, in order, into `local`, leaving out what was purged. Losers that come and go within one call still count as found: concurrent writes leave a record
 * even when the write that has seen both arrives in the same batch.
 */
export function planKey(
  stored: KeyState<RowSource>,
  received: readonly ReceivedState[],
  requests: KnownRequests,
  horizon: PurgeHorizon = noHorizon,
): KeyPlan {
  const { local, states: incoming, returned } = admit(stored, received, horizon);
  let state = local;
  const found: NewLoser[] = [];
  const known = withRequests(requests, incoming, received);
  for (const next of incoming) {
    const fast = planFast(state, next);
    const merged = fast ?? mergeStates(state, next, known);
    if (fast === null) noteLosers(merged, local.losers, found);
    state = merged;
  }
  if (state === local || state.winner === null)
    return returned.length === 0 ? nothing : { ...nothing, returned };
  const stays = local.winner !== null && sameDot(local.winner.version.dot, state.winner.version.dot);
  const open = (dot: Dot): boolean => state.losers.some((one) => sameDot(one.version.dot, dot));
  const { crdt } = state.winner.version;
  const closed = [...local.losers, ...found.map(({ loser }) => loser)]
    .map((one) => one.version)
    .filter(({ dot }) => !open(dot));
  const isWithdrawn = (version: Version): boolean =>
    isOperation(version) && !open(version.dot) && !isSeenByWrite(state, version.dot);
  return {
    winner: stays ? null : state.winner,
    seen: stays && sameClock(local.seen, state.seen) ? null : state.seen,
    crdt: stays && sameCrdt(local.winner!.version.crdt, crdt) ? undefined : crdt,
    newLosers: found.filter((one) => !isWithdrawn(one.loser.version)),
    superseded: closed.filter((version) => !isWithdrawn(version)).map(({ dot }) => dot),
    withdrawn: local.losers.flatMap(({ version }) => (isWithdrawn(version) ? [version.dot] : [])),
    returned,
  };
}

/** What is known of requests once all has come: a write may be overwritten by the next, or have been before it was sent, yet be the reason to drop a third. */
function withRequests(
  requests: KnownRequests,
  incoming: readonly KeyState<RowSource>[],
  received: readonly ReceivedState[],
): KnownRequests {
  let known: Map<string, RequestWrite[]> | undefined;
  const add = (request: string, write: RequestWrite): void => {
    known ??= new Map([...requests].map(([id, writes]) => [id, [...writes]]));
    const writes = known.get(request);
    if (writes === undefined) known.set(request, [write]);
    else writes.push(write);
  };
  if (incoming.length > 1)
    for (const { version } of incoming.flatMap(versionsOf))
      if (version.request !== null) add(version.request, version);
  for (const state of received) for (const write of state.requests ?? []) add(write.request, write);
  return known ?? requests;
}

/**
 * The common cases without building sets: first write of a key, repetition, clean overwrite. Null when the merge has to decide. Requests do not
 * matter here: they only decide which losers are open, and there are none.
 */
function planFast(state: KeyState<RowSource>, next: KeyState<RowSource>): KeyState<RowSource> | null {
  if (state.losers.length > 0 || next.losers.length > 0 || next.winner === null) return null;
  if (state.winner === null) return Object.keys(state.seen).length === 0 ? next : null;
  const theirs = next.winner.version;
  if (state.winner.version.crdt !== theirs.crdt) return null; // equal only where both are null: fields merge by their own rules
  if (covers(state.seen, theirs.dot)) {
    const seen = join(state.seen, next.seen);
    return seen === state.seen ? state : { ...state, seen };
  }
  if (covers(theirs.clock, state.winner.version.dot))
    return { winner: next.winner, seen: join(next.seen, state.seen), losers: [] };
  return null;
}

/** Adds the losers that have no record yet. */
function noteLosers(
  merged: KeyState<RowSource>,
  recorded: readonly Stamped<RowSource>[],
  found: NewLoser[],
): void {
  if (merged.winner === null) return;
  for (const loser of merged.losers) {
    const isIt = (one: Stamped<RowSource>): boolean => sameDot(one.version.dot, loser.version.dot);
    if (recorded.some(isIt) || found.some((one) => isIt(one.loser))) continue;
    found.push({
      kind: conflictKind(merged.winner.version, loser.version),
      loser,
      winner: merged.winner.version,
    });
  }
}
