/**
 * The CRDT state of a key, as column `crdt` of its version table holds it: its lives, by the dot of the insert that began each. Pure.
 *
 * Its causal context is what the key has `seen`: operations draw their dots from the sequence that row writes draw from. So a life, an
 * addition or a request that one side does not hold, but has seen, is gone. That only works if a state travels whole, together with a `seen` that
 * covers all its dots, and is merged as a whole.
 *
 * There is more than one life while masters that did not know of each other inserted the key: both count, until an insert that has seen them
 * takes their place. A row that is deleted keeps its lives, so what is done to it concurrently is not lost when the deletion loses.
 */
import { PgquorumError } from '../../errors/error.ts';
import { covers, type Clock } from '../clock.ts';
import { dotText, type Dot, type NodeNumber } from '../version.ts';
import type { SeenBy } from './dots.ts';
import { emptyIncarnation, mergeIncarnations, type Incarnation } from './incarnation.ts';
import { unlessEmpty } from './unless-empty.ts';

/** Creating dot -> life. */
export type Lives = { readonly [dot: string]: Incarnation };
/** Null is `{"0.0": {}}`: nothing was done yet to a row that was there before its collection had CRDT fields. */
export type CrdtState = Lives | null;

/** A state and its causal context. */
export interface SeenCrdt {
  readonly crdt: CrdtState;
  readonly seen: Clock;
}

/** The dot of lives that began before there were CRDT fields. Everyone has seen it. */
const firstDot = '0.0';
const firstLife: Lives = Object.freeze({ [firstDot]: emptyIncarnation });

export const livesOf = (state: CrdtState): Lives => state ?? firstLife;

export const stateOf = (lives: Lives): CrdtState => {
  const keys = Object.keys(lives);
  return keys.length === 1 && keys[0] === firstDot && Object.keys(lives[firstDot]!).length === 0
    ? null
    : lives;
};

/** What an insert begins where no row was: it takes the place of all earlier lives that the inserting node holds. */
export const newLife = (insert: Dot): CrdtState => ({ [dotText(insert)]: emptyIncarnation });

/** Commutative, associative and idempotent on states that nodes reach. `a.crdt` itself when nothing is new to it. */
export function mergeCrdt(a: SeenCrdt, b: SeenCrdt): CrdtState {
  if (a.crdt === b.crdt) return a.crdt;
  const [ours, theirs] = [livesOf(a.crdt), livesOf(b.crdt)];
  const seen = { a: a.seen, b: b.seen };
  const lives = mergeLives(ours, theirs, seen);
  if (lives === ours) return a.crdt;
  if (lives !== undefined) return stateOf(lives);
  throw new PgquorumError(
    'invariant_broken',
    `of the lives ${[...Object.keys(ours), ...Object.keys(theirs)].join(', ')} of a key each is gone on the other side`,
  );
}

/** A life that one side does not hold stays when that side has not seen its insert. */
function mergeLives(ours: Lives, theirs: Lives, seen: SeenBy): Lives | undefined {
  const merged: Record<string, Incarnation> = {};
  let same = true;
  for (const dot in ours) {
    const other = theirs[dot];
    const kept = other === undefined && covers(seen.b, dotOf(dot)) ? undefined : ours[dot]!;
    const life = kept === undefined || other === undefined ? kept : mergeIncarnations(kept, other, seen);
    if (life !== undefined) merged[dot] = life;
    if (life !== ours[dot]) same = false;
  }
  for (const dot in theirs) {
    if (ours[dot] !== undefined || covers(seen.a, dotOf(dot))) continue;
    merged[dot] = theirs[dot]!;
    same = false;
  }
  return same ? ours : unlessEmpty(merged);
}

export function dotOf(text: string): Dot {
  const point = text.indexOf('.');
  return { origin: Number(text.slice(0, point)) as NodeNumber, counter: Number(text.slice(point + 1)) };
}

/** The life that operations are done to: that with the greatest (counter, origin), the same on every node that holds the same lives. */
export function currentLife(lives: Lives): string {
  return Object.keys(lives).reduce((best, text) => {
    const [a, b] = [dotOf(best), dotOf(text)];
    return b.counter > a.counter || (b.counter === a.counter && b.origin > a.origin) ? text : best;
  });
}

/**
 * Operations that a clock does not cover, of each life and origin the last. A deletion whose clock leaves some uncovered was made without knowing of
 * them: that is a conflict to record.
 */
export function uncovered(state: CrdtState, clock: Clock): Dot[] {
  const last = new Map<number, number>();
  for (const life of Object.values(livesOf(state))) {
    for (const origin in life.ops) {
      const counter = life.ops[origin]!;
      if ((clock[origin] ?? 0) >= counter) continue;
      last.set(Number(origin), Math.max(counter, last.get(Number(origin)) ?? 0));
    }
  }
  return [...last]
    .map(([origin, counter]) => ({ origin: origin as NodeNumber, counter }))
    .sort((a, b) => a.origin - b.origin);
}

/** Equal states are equal JSON, whatever the order of their keys. */
export const sameCrdt = (a: CrdtState, b: CrdtState): boolean => sameJson(livesOf(a), livesOf(b));

function sameJson(a: unknown, b: unknown): boolean {
  if (a === b) return true;
  if (typeof a !== 'object' || typeof b !== 'object' || a === null || b === null) return false;
  if (Array.isArray(a) !== Array.isArray(b)) return false;
  const keys = Object.keys(a);
  return (
    keys.length === Object.keys(b).length &&
    keys.every((key) => Object.hasOwn(b, key) && sameJson(a[key as never], b[key as never]))
  );
}
