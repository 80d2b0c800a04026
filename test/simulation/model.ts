/**
 * The naive model that the production code is compared with: every write knows the full set of writes that its node had seen, and nothing is
 * summed up in a vector. Slow, and plain enough to be believed.
 */
import type { Operations } from '#core/versioning/crdt/operation.ts';
import { compareVersions, dotText, type Version } from '#core/versioning/version.ts';

export interface ModelWrite {
  /** The dot as text. */
  readonly id: string;
  readonly version: Version;
  readonly row: string | null;
  /** Began a life of the row: there was none, or a tombstone, and nobody brought the deleted row back. */
  readonly insert: boolean;
  /** Ids of all writes and operations of the key that its node had seen, itself included. */
  readonly history: ReadonlySet<string>;
}

/** An operation on CRDT fields: no version of the row, but a dot that others have seen. */
export interface ModelOperation {
  readonly id: string;
  readonly operations: Operations;
  /** Ids of all writes and operations of the key that its node had seen, itself included. */
  readonly history: ReadonlySet<string>;
  /** The insert that began the life it was done in. */
  readonly life: string;
}

/** Every write ever committed, by key and id. */
export class Ledger {
  readonly #writes = new Map<string, Map<string, ModelWrite>>();
  readonly #operations = new Map<string, Map<string, ModelOperation>>();

  add(
    key: string,
    written: { readonly version: Version; readonly row: string | null; readonly insert: boolean },
    seen: ReadonlySet<string>,
  ): ModelWrite {
    const id = dotText(written.version.dot);
    const write = { ...written, id, history: new Set([...seen, id]) };
    const writes = this.of(key);
    if (writes.has(id)) throw new Error(`the dot ${id} was used twice for key ${key}`);
    writes.set(id, write);
    return write;
  }

  operate(
    key: string,
    operation: Omit<ModelOperation, 'history'>,
    seen: ReadonlySet<string>,
  ): ModelOperation {
    const added = { ...operation, history: new Set([...seen, operation.id]) };
    this.operationsOf(key).set(operation.id, added);
    return added;
  }

  operationsOf(key: string): Map<string, ModelOperation> {
    let operations = this.#operations.get(key);
    if (operations === undefined) this.#operations.set(key, (operations = new Map()));
    return operations;
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

/** Lives that no insert has seen: an insert takes the place of those that its node knew. */
export function livesAlive(ledger: Ledger, key: string): ReadonlySet<string> {
  const inserts = [...ledger.of(key).values()].filter((write) => write.insert);
  return new Set(
    inserts
      .filter((one) => !inserts.some((other) => other !== one && other.history.has(one.id)))
      .map(({ id }) => id),
  );
}

export interface ModelValues {
  readonly count: number;
  readonly tags: readonly string[];
}

/** What a row's fields should hold once every operation has reached all nodes. */
export function valuesOf(ledger: Ledger, key: string): ModelValues {
  const alive = livesAlive(ledger, key);
  const operations = [...ledger.operationsOf(key).values()];
  const counted = operations.filter(({ life }) => alive.has(life));
  let count = 0;
  const tags = new Set<string>();
  for (const one of counted) {
    const { count: change, tags: tag } = one.operations as {
      count?: { increment?: number; decrement?: number };
      tags?: { add?: string; remove?: string };
    };
    count += (change?.increment ?? 0) - (change?.decrement ?? 0);
    if (tag?.add === undefined) continue;
    const removed = operations.some(
      (other) =>
        (other.operations as { tags?: { remove?: string } }).tags?.remove === tag.add &&
        other.history.has(one.id),
    );
    if (!removed) tags.add(tag.add);
  }
  return { count, tags: [...tags].sort() };
}
