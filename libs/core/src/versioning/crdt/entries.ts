/**
 * Merging maps entry by entry. Most of what two states hold is equal, so nothing is copied until something differs: a map to which the other one
 * adds nothing is returned itself, by which callers can tell. Pure.
 */
import { unlessEmpty } from './unless-empty.ts';

export type Entries<T> = { readonly [key: string]: T };
/** One of the two is there. Undefined when the entry is gone; `a` itself when it stays as it is. */
export type MergeEntry<T> = (a: T | undefined, b: T | undefined) => T | undefined;

/** Undefined when no entry is left. */
export function mergeEntries<T>(
  a: Entries<T> | undefined,
  b: Entries<T> | undefined,
  merge: MergeEntry<T>,
): Entries<T> | undefined {
  if (a === b) return a;
  let merged: Record<string, T> | undefined;
  for (const key in a) {
    const entry = merge(a[key], b?.[key]);
    if (entry === a[key]) continue;
    merged ??= { ...a };
    if (entry === undefined) delete merged[key];
    else merged[key] = entry;
  }
  for (const key in b) {
    if (a?.[key] !== undefined) continue;
    const entry = merge(undefined, b[key]);
    if (entry === undefined) continue;
    merged ??= { ...a };
    merged[key] = entry;
  }
  return merged === undefined ? a : unlessEmpty(merged);
}
