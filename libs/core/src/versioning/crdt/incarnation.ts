/**
 * One life of a row: what was done to its CRDT fields since it was inserted. Pure.
 *
 * What is undone with a life is all that was done in it: whoever inserts a deleted row again begins with nothing, and takes away what it has seen.
 */
import { join, type Clock } from '../clock.ts';
import { mergeDots, type Dots, type SeenBy } from './dots.ts';
import { mergeEntries } from './entries.ts';
import { mergeFields, type FieldStates } from './field.ts';

export interface Incarnation {
  /** Origin -> counter of its last operation in this life. */
  readonly ops?: Clock;
  readonly f?: FieldStates;
  readonly k?: KeyedRequests;
}

/** Increments of requests that have an id, by that id: a request that two masters carried out counts once. */
export type KeyedRequests = { readonly [request: string]: Keyed };

export interface Keyed {
  /** The operations that carried it out. */
  readonly at: Dots;
  /** Field -> what it adds, below 0 for what it takes away. The same wherever the request was carried out. */
  readonly d: Amounts;
}

export type Amounts = { readonly [field: string]: number };

export const emptyIncarnation: Incarnation = Object.freeze({});

/** `a` itself when nothing is new to it. */
export function mergeIncarnations(a: Incarnation, b: Incarnation, seen: SeenBy): Incarnation {
  if (a === b) return a;
  const merged: { -readonly [P in keyof Incarnation]: Incarnation[P] } = {};
  const ops = a.ops === undefined ? b.ops : b.ops === undefined ? a.ops : join(a.ops, b.ops);
  const f = mergeFields(a.f, b.f, seen);
  const k = mergeEntries<Keyed>(a.k, b.k, (ours, theirs) => mergeKeyed(ours, theirs, seen));
  if (ops === a.ops && f === a.f && k === a.k) return a;
  if (ops !== undefined) merged.ops = ops;
  if (f !== undefined) merged.f = f;
  if (k !== undefined) merged.k = k;
  return merged;
}

/** An entry that one side has seen and no longer holds was folded into a cell. */
function mergeKeyed(a: Keyed | undefined, b: Keyed | undefined, seen: SeenBy): Keyed | undefined {
  const at = mergeDots(a?.at, b?.at, seen);
  if (at === undefined) return undefined;
  const d = a === undefined ? b!.d : b === undefined ? a.d : mergeAmounts(a.d, b.d);
  return at === a?.at && d === a.d ? a : { at, d };
}

/** They are equal, unless two requests have one id: then masters agree on something all the same. */
export function mergeAmounts(a: Amounts, b: Amounts): Amounts {
  let merged: Record<string, number> | undefined;
  for (const field in b) {
    if (b[field]! <= (a[field] ?? -Infinity)) continue;
    merged ??= { ...a };
    merged[field] = b[field]!;
  }
  return merged ?? a;
}
