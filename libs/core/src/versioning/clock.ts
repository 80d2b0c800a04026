/**
 * Clocks as plain maps node number -> counter. A clock covers a dot when its entry for the origin is at least the counter.
 * Joining is the pointwise maximum: commutative, associative, idempotent. Pure; no function changes its arguments.
 */
import type { Dot } from './version.ts';

export type Clock = { readonly [node: string]: number };

export const emptyClock: Clock = Object.freeze({});

export const covers = (clock: Clock, dot: Dot): boolean => (clock[dot.origin as number] ?? 0) >= dot.counter;

export function join(a: Clock, b: Clock): Clock {
  let result: Record<string, number> | undefined;
  for (const node in b) {
    const counter = b[node]!;
    if (counter > (a[node] ?? 0)) {
      result ??= { ...a };
      result[node] = counter;
    }
  }
  return result ?? a;
}

/** True when every entry of `b` is covered by `a`. */
export function includes(a: Clock, b: Clock): boolean {
  for (const node in b) if ((a[node] ?? 0) < b[node]!) return false;
  return true;
}

export const sameClock = (a: Clock, b: Clock): boolean => a === b || (includes(a, b) && includes(b, a));

export type ClockOrder = 'equal' | 'before' | 'after' | 'concurrent';

export function compareClocks(a: Clock, b: Clock): ClockOrder {
  const ab = includes(a, b);
  const ba = includes(b, a);
  if (ab && ba) return 'equal';
  if (ab) return 'after';
  return ba ? 'before' : 'concurrent';
}
