/**
 * Merging the states of one key. Pure.
 *
 * A state is a winner, what has been seen, and the open losers: concurrent writes that lost and that no version has seen since. It is a
 * dotted version vector set: a dot within `seen` that is not among the versions is one that this side knows to be gone. So a version survives a
 * merge when the other side holds it too, or has not seen it. Nothing else removes one, which is why merging is commutative,
 * associative and idempotent (merge.property.test.ts), and delivery in any order, with repetition, ends in one state.
 *
 * The state of a key's CRDT fields is its winner's `version.crdt`: it joins by its own rules (crdt/state.ts) whichever row wins, with `seen` as its
 * causal context.
 *
 * Rows are opaque: the caller says where a version's row is to be found (`R`), the merge only carries it along.
 *
 * Invariants: the clock of every version in a state is within `seen`; no version in a state covers another one of it; the winner is the
 * greatest of them. Since a write is always greater than what it has seen (local-write.ts), the winner is also the greatest version ever merged:
 * which row stands never depends on the order of delivery nor on what is remembered of requests.
 */
import { PgquorumError } from '../errors/error.ts';
import { covers, emptyClock, join, type Clock } from './clock.ts';
import { livesOf, mergeCrdt, type CrdtState } from './crdt/state.ts';
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
  /** What it had seen; left out where that is not remembered. */
  readonly clock?: Clock | undefined;
}

/** One write of a request, named with it: what a state tells of writes that it has seen and does not hold. */
export interface RememberedRequest extends RequestWrite {
  readonly request: string;
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
  const ours = versionsOf(a).filter(isWrite);
  const theirs = versionsOf(b).filter(isWrite);
  const open = [
    ...ours.filter((one) => !covers(b.seen, one.version.dot) || holds(theirs, one.version.dot)),
    ...theirs.filter((one) => !covers(a.seen, one.version.dot) && !holds(ours, one.version.dot)),
  ];
  const [winner, ...losers] = open.sort((x, y) => compareVersions(y.version, x.version));
  if (winner !== undefined) {
    const crdt = mergeFields(a, b);
    return {
      winner: winner.version.crdt === crdt ? winner : { ...winner, version: { ...winner.version, crdt } },
      seen,
      losers: [
        ...losers.filter((one) => !repeated(one.version, ours, theirs, requests)),
        ...undoneOperations(a, b, { writes: [...ours, ...theirs], requests, winner: winner.version, crdt }),
      ],
    };
  }
  if (ours.length + theirs.length === 0) return { winner: null, seen, losers: [] };
  throw new PgquorumError(
    'invariant_broken',
    `of the versions ${[...ours, ...theirs].map((one) => dotText(one.version.dot)).join(', ')} of a key each is gone on the other side`,
  );
}

function mergeFields<R>(a: KeyState<R>, b: KeyState<R>): CrdtState {
  if (a.winner === null) return b.winner?.version.crdt ?? null;
  if (b.winner === null) return a.winner.version.crdt;
  return mergeCrdt(
    { crdt: a.winner.version.crdt, seen: a.seen },
    { crdt: b.winner.version.crdt, seen: b.seen },
  );
}

interface Merged<R> {
  /** Of both sides, also those that are gone now. */
  readonly writes: readonly Stamped<R>[];
  readonly requests: KnownRequests;
  readonly winner: Version;
  readonly crdt: CrdtState;
}

const isWrite = <R>({ version }: Stamped<R>): boolean => !isOperation(version);

/** Losers that stand for an operation, not for a write of the row, carry the state that it left, with its own dot as the last one. */
export const isOperation = (version: Version): boolean => lifeOf(version) !== undefined;

/** The life of the row that an operation was done in. */
function lifeOf({ crdt, dot }: Version): string | undefined {
  for (const life in crdt) if (crdt[life]!.ops?.[dot.origin as number] === dot.counter) return life;
  return undefined;
}

/**
 * Operations on CRDT fields whose row was deleted, or deleted and inserted again, by someone who had not seen them. They are no versions of the row, so
 * nothing of them would be left to see: each origin's last one becomes a loser, with the row that it was done to. Unlike writes they are open exactly
 * as long as no write has seen them and no living row counts them: a side that holds them in its fields holds no loser.
 * Which row that is may differ between nodes: the one that stood where it was found.
 */
function undoneOperations<R>(a: KeyState<R>, b: KeyState<R>, merged: Merged<R>): Stamped<R>[] {
  const found = new Map<string, Stamped<R>>();
  const add = (one: Stamped<R>): void => {
    if (isSettled(one.version, merged)) return;
    const name = `${one.version.dot.origin} ${lifeOf(one.version)}`;
    const before = found.get(name);
    if (before === undefined || before.version.dot.counter < one.version.dot.counter) found.set(name, one);
  };
  for (const side of [a, b]) for (const one of side.losers) if (isOperation(one.version)) add(one);
  for (const { winner } of [a, b]) {
    if (winner === null || winner.version.deleted || winner.version.crdt === null) continue;
    const { clock, crdt } = winner.version;
    for (const life in crdt) {
      for (const origin in crdt[life]!.ops) {
        const dot: Dot = { origin: Number(origin), counter: crdt[life]!.ops[origin]! };
        const version = {
          ...winner.version,
          dot,
          clock: join(clock, { [origin]: dot.counter }),
          request: null,
        };
        add({ ...winner, version });
      }
    }
  }
  return [...found.values()].sort((x, y) => compareVersions(y.version, x.version));
}

/**
 * Does an operation need no record? Either a write has seen it, for good, or a living row counts it, for now. A write that was dropped as a repeat counts too,
 * also once it is forgotten: what it had seen is remembered with its request.
 */
function isSettled<R>(operation: Version, merged: Merged<R>): boolean {
  if (merged.writes.some(({ version }) => covers(version.clock, operation.dot))) return true;
  for (const tries of merged.requests.values())
    if (tries.some(({ clock }) => clock !== undefined && covers(clock, operation.dot))) return true;
  const life = livesOf(merged.crdt)[lifeOf(operation)!];
  return (
    !merged.winner.deleted && (life?.ops?.[operation.dot.origin as number] ?? 0) >= operation.dot.counter
  );
}

/** Has a write of this state seen the dot? */
export const isSeenByWrite = <R>(state: KeyState<R>, dot: Dot): boolean =>
  versionsOf(state).some((one) => isWrite(one) && covers(one.version.clock, dot));

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
  'update-update' | 'update-delete' | 'delete-update' | 'delete-delete' | 'insert-insert' | 'model-guard';

export function conflictKind(winner: Version, loser: Version): ConflictKind {
  if (isOperation(loser)) return 'delete-update'; // also where the row has been inserted again since
  if (winner.rank !== loser.rank) return 'model-guard';
  if (winner.deleted) return loser.deleted ? 'delete-delete' : 'delete-update';
  if (loser.deleted) return 'update-delete';
  return Object.keys(winner.clock).some((node) => node in loser.clock) ? 'update-update' : 'insert-insert';
}
