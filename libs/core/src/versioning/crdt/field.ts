/**
 * The state of one CRDT field, by type: what a node adds to it is kept under the node's number, so that states of several nodes merge without
 * losing anything. Pure; the types' rules are in files of their own.
 *
 * A field's state has a part for each type that it ever had. Only that of the declared type is read; so a field that is declared anew with
 * another type begins anew, and nodes that learn of that at different times still agree.
 *
 * Nothing empty is kept (no set without elements, no field without parts): equal states are equal JSON.
 */
import { mergeCells, type Cells } from './g-counter.ts';
import { mergeRegisters, type Register } from './lww-register.ts';
import { mergeElements, type Elements } from './or-set.ts';
import { mergePairs, type Pairs } from './pn-counter.ts';
import type { SeenBy } from './dots.ts';
import { mergeEntries } from './entries.ts';
import { unlessEmpty } from './unless-empty.ts';

export const crdtTypes = ['g-counter', 'pn-counter', 'lww-register', 'or-set'] as const;
export type CrdtType = (typeof crdtTypes)[number];

/** The fields that a collection declares (`conflicts.crdt`). */
export type CrdtFields = { readonly [field: string]: CrdtType };

export interface FieldState {
  readonly g?: Cells;
  readonly p?: Pairs;
  readonly r?: Register;
  readonly s?: Elements;
}

export type FieldStates = { readonly [field: string]: FieldState };

const either = <T>(a: T | undefined, b: T | undefined, merge: (a: T, b: T) => T): T | undefined =>
  a === undefined ? b : b === undefined ? a : merge(a, b);

/** Undefined when nothing is left. */
function mergeFieldStates(a: FieldState = none, b: FieldState = none, seen: SeenBy): FieldState | undefined {
  const g = either(a.g, b.g, mergeCells);
  const p = either(a.p, b.p, mergePairs);
  const r = either(a.r, b.r, mergeRegisters);
  const s = mergeElements(a.s, b.s, seen);
  return g === a.g && p === a.p && r === a.r && s === a.s && a !== none ? a : fieldState({ g, p, r, s });
}

/** Leaves out what is not there. */
export function fieldState(parts: {
  readonly g: Cells | undefined;
  readonly p: Pairs | undefined;
  readonly r: Register | undefined;
  readonly s: Elements | undefined;
}): FieldState | undefined {
  const state: { -readonly [P in keyof FieldState]: FieldState[P] } = {};
  if (parts.g !== undefined) state.g = parts.g;
  if (parts.p !== undefined) state.p = parts.p;
  if (parts.r !== undefined) state.r = parts.r;
  if (parts.s !== undefined) state.s = parts.s;
  return unlessEmpty(state);
}

const none: FieldState = Object.freeze({});

/** All fields of both sides; undefined when nothing is left. */
export const mergeFields = (
  a: FieldStates | undefined,
  b: FieldStates | undefined,
  seen: SeenBy,
): FieldStates | undefined =>
  mergeEntries<FieldState>(a, b, (ours, theirs) => mergeFieldStates(ours, theirs, seen));
