/**
 * The naive model that the production code is compared with: every write knows the full set of writes that its node had seen, and nothing is
 * summed up in a vector. Slow, and plain enough to be believed.
 */
import { compareVersions, dotText, type Version } from '#core/versioning/version.ts';

export interface ModelWrite {
  /** The dot as text. */
  readonly id: string;
  readonly version: Version;
  readonly row: string | null;
  /** Ids of all writes of the key that its node had seen, itself included. */
  readonly history: ReadonlySet<string>;
}

/** Every write ever committed, by key and id. */
export class Ledger {
  readonly #writes = new Map<string, Map<string, ModelWrite>>();

  add(key: string, version: Version, row: string | null, seen: ReadonlySet<string>): ModelWrite {
    const id = dotText(version.dot);
    const write = { id, version, row, history: new Set([...seen, id]) };
    const writes = this.of(key);
    if (writes.has(id)) throw new Error(`the dot ${id} was used twice for key ${key}`);
    writes.set(id, write);
    return write;
  }

  of(key: string): Map<string, ModelWrite> {
    let writes = this.#writes.get(key);
    if (writes === undefined) this.#writes.set(key, (writes = new Map()));
    return writes;
  }

  get(key: string, id: string): ModelWrite {
    const write = this.of(key).get(id);
    if (write === undefined) throw new Error(`key ${key} has no write ${id}`);
    return write;
  }
}

/** What one node holds of one key, in sets of ids. */
export interface ModelState {
  readonly live: ReadonlySet<string>;
  readonly known: ReadonlySet<string>;
  /** Writes whose request has been heard of. */
  readonly heard: ReadonlySet<string>;
  /** Losers whose record is closed here. */
  readonly closed: ReadonlySet<string>;
}

export const nothingKnown: ModelState = {
  live: new Set(),
  known: new Set(),
  heard: new Set(),
  closed: new Set(),
};

export const union = <T>(a: ReadonlySet<T>, b: ReadonlySet<T>): ReadonlySet<T> => new Set([...a, ...b]);

const inOrder = (writes: readonly ModelWrite[]): ModelWrite[] =>
  [...writes].sort((a, b) => compareVersions(b.version, a.version));

/** The write that stands, or null. */
export function winnerOf(ledger: Ledger, key: string, ids: ReadonlySet<string>): ModelWrite | null {
  return inOrder([...ids].map((id) => ledger.get(key, id)))[0] ?? null;
}

const isGreaterRepeat = (other: ModelWrite, one: ModelWrite): boolean =>
  other !== one &&
  one.version.request !== null &&
  other.version.request === one.version.request &&
  compareVersions(other.version, one.version) > 0;

/** Drops losers that are closed, and those of which a greater write of the same request has been heard of. */
export function settle(ledger: Ledger, key: string, state: ModelState): ModelState {
  const winner = winnerOf(ledger, key, state.live);
  const heard = [...state.heard].map((id) => ledger.get(key, id));
  const stays = (id: string): boolean =>
    id === winner?.id ||
    (!state.closed.has(id) && !heard.some((other) => isGreaterRepeat(other, ledger.get(key, id))));
  return { ...state, live: new Set([...state.live].filter(stays)) };
}

export function merge(ledger: Ledger, key: string, ours: ModelState, theirs: ModelState): ModelState {
  const live = new Set([...ours.live].filter((id) => theirs.live.has(id) || !theirs.known.has(id)));
  for (const id of theirs.live) if (!ours.known.has(id)) live.add(id);
  return settle(ledger, key, {
    ...ours,
    live,
    known: union(ours.known, theirs.known),
    heard: union(ours.heard, theirs.heard),
  });
}

/** The state that one write is when it travels alone. */
export const aloneState = (write: ModelWrite): ModelState => ({
  live: new Set([write.id]),
  known: write.history,
  heard: new Set([write.id]),
  closed: new Set(),
});

/** What all nodes should hold once each write has reached all of them: defined over all writes at once, without any merging. */
export function outcomeOf(writes: readonly ModelWrite[]): {
  readonly winner: ModelWrite | null;
  readonly losers: readonly ModelWrite[];
} {
  const unseen = writes.filter((one) => !writes.some((other) => other !== one && other.history.has(one.id)));
  const [winner, ...losers] = inOrder(unseen);
  return {
    winner: winner ?? null,
    losers: losers.filter((one) => !writes.some((other) => isGreaterRepeat(other, one))),
  };
}
