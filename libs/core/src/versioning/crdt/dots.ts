/**
 * Dots that vouch for something (an element, a request carried out), one of each origin at most: origin -> counter. Pure.
 *
 * What an origin does again replaces its own earlier dot, so the greatest of each is enough. There are no tombstones: a dot that one side
 * does not hold, but has seen, is gone. So whatever the other side has not seen survives a merge: of an addition and a concurrent
 * removal the addition wins.
 */
import type { Clock } from '../clock.ts';
import { unlessEmpty } from './unless-empty.ts';

export type Dots = { readonly [origin: string]: number };

/** What either side of a merge has seen of the key. */
export interface SeenBy {
  readonly a: Clock;
  readonly b: Clock;
}

/** Undefined when no dot is left; `a` itself when all of it stays and nothing is added. */
export function mergeDots(a: Dots | undefined, b: Dots | undefined, seen: SeenBy): Dots | undefined {
  if (a === b || sameDots(a, b)) return a;
  const merged: Record<string, number> = {};
  for (const origin in a) {
    const counter = a[origin]!;
    if (b?.[origin] === counter || (seen.b[origin] ?? 0) < counter) merged[origin] = counter;
  }
  for (const origin in b) {
    const counter = b[origin]!;
    if ((seen.a[origin] ?? 0) < counter && (merged[origin] ?? 0) < counter) merged[origin] = counter;
  }
  return sameDots(a, merged) ? a : unlessEmpty(merged);
}

function sameDots(a: Dots | undefined, b: Dots | undefined): boolean {
  for (const origin in a) if (b?.[origin] !== a[origin]) return false;
  for (const origin in b) if (a?.[origin] === undefined) return false;
  return true;
}
