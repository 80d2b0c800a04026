/**
 * Folding: increments of requests that nobody can repeat any more move from the map of requests into the cell of one node. Pure.
 *
 * Others learn of it like of any change: they hold an entry whose dots the folded state has seen and no longer holds, so it is gone, and the cell
 * is greater. The node with the lowest number among those that carried the request out does it, so that it is done once.
 */
import type { NodeNumber } from '../version.ts';
import { addToOwn } from './apply-operations.ts';
import type { Dots } from './dots.ts';
import type { CrdtFields } from './field.ts';
import type { Amounts, Incarnation } from './incarnation.ts';
import { livesOf, stateOf, type CrdtState, type Lives } from './state.ts';

export interface Fold {
  readonly state: CrdtState;
  /** A type decides which cell counts; what is not declared is kept for the day that it is. */
  readonly fields: CrdtFields;
  readonly me: NodeNumber;
  /**
   * True when every replica has seen these dots, and will refuse the request if it comes again (pgquorum.request remembers it, or it is too old to be
   * accepted). Folding earlier counts a request twice.
   */
  readonly stable: (request: string, at: Dots) => boolean;
}

/** The state itself when there is nothing to fold. */
export function fold({ state, fields, me, stable }: Fold): CrdtState {
  let lives = livesOf(state);
  const folded = new Map<string, Set<string>>();
  for (const { request, life, at, d } of foldable(lives)) {
    if (lowestOrigin(at) !== me || !stable(request, at)) continue;
    const counted = count(lives, { life, d, fields, me });
    if (counted === null) continue;
    lives = counted;
    let ofLife = folded.get(life);
    if (ofLife === undefined) folded.set(life, (ofLife = new Set()));
    ofLife.add(request);
  }
  return folded.size === 0 ? state : stateOf(without(lives, folded));
}

/** The node that is to fold a request. */
export const lowestOrigin = (at: Dots): NodeNumber => Math.min(...Object.keys(at).map(Number)) as NodeNumber;

export interface PendingRequest {
  readonly request: string;
  readonly life: string;
  readonly at: Dots;
  readonly d: Amounts;
}

/**
 * Requests that are still kept by id. One that masters carried out in different lives is left out: which of those lives stays is not known yet, and
 * folding it into one of them would lose it with that one.
 */
export function foldable(lives: Lives): PendingRequest[] {
  const pending = new Map<string, PendingRequest | null>();
  for (const life in lives) {
    const { k } = lives[life]!;
    for (const request in k)
      pending.set(request, pending.has(request) ? null : { request, life, ...k[request]! });
  }
  return [...pending.values()].filter((one) => one !== null);
}

interface Counted {
  readonly life: string;
  readonly d: Amounts;
  readonly fields: CrdtFields;
  readonly me: NodeNumber;
}

/** Null when it can not be done whole: a field is no counter now, or its cell would be beyond what a number holds exactly. */
function count(lives: Lives, { life, d, fields, me }: Counted): Lives | null {
  let next: Lives | null = lives;
  for (const [field, amount] of Object.entries(d)) {
    const type = fields[field];
    if (type !== 'g-counter' && type !== 'pn-counter') return null;
    if (type === 'g-counter' && amount < 0) return null;
    next = addToOwn(next, { life, field, type, node: me, amount });
    if (next === null) return null;
  }
  return next;
}

/** All at once: one by one, a thousand requests would copy the map of them a thousand times while the key is locked. */
function without(lives: Lives, folded: ReadonlyMap<string, ReadonlySet<string>>): Lives {
  const next: Record<string, Incarnation> = { ...lives };
  for (const [life, requests] of folded) {
    const { k, ...rest } = next[life]!;
    const left = Object.entries(k!).filter(([request]) => !requests.has(request));
    next[life] = left.length === 0 ? rest : { ...rest, k: Object.fromEntries(left) };
  }
  return next;
}
