/** What users see of a CRDT state: the value of each declared field. Pure. The SQL functions of the same names compute the same. */
import { unreachable } from '../../errors/error.ts';
import type { CrdtFields, CrdtType } from './field.ts';
import { mergeAmounts, type Amounts } from './incarnation.ts';
import { mergeRegisters, type Json, type Register } from './lww-register.ts';
import { sortElements } from './or-set.ts';
import { pairParts } from './pn-counter.ts';
import { livesOf, type CrdtState, type Lives } from './state.ts';
import { sumOf } from './sum.ts';

export type CrdtValues = { readonly [field: string]: Json };

/** Every declared field is there: 0, null and [] when nothing was done to it. */
export function valuesOf(state: CrdtState, fields: CrdtFields): CrdtValues {
  const lives = livesOf(state);
  const keyed = keyedAmounts(lives);
  return Object.fromEntries(
    Object.entries(fields).map(([field, type]) => [field, valueIn(lives, keyed, field, type)]),
  );
}

export function valueOf(state: CrdtState, field: string, type: CrdtType): Json {
  const lives = livesOf(state);
  return valueIn(lives, keyedAmounts(lives), field, type);
}

function valueIn(lives: Lives, keyed: readonly Amounts[], field: string, type: CrdtType): Json {
  switch (type) {
    case 'g-counter':
    case 'pn-counter':
      return sumOf(counterParts(lives, keyed, field, type));
    case 'lww-register':
      return greatestRegister(lives, field)?.[0] ?? null;
    case 'or-set':
      return sortElements(
        new Set(Object.values(lives).flatMap((life) => Object.keys(life.f?.[field]?.s ?? {}))),
      );
    default:
      return unreachable(type);
  }
}

/** Cells of all lives, and each request once: masters may have carried it out in different lives. */
export function counterParts(
  lives: Lives,
  keyed: readonly Amounts[],
  field: string,
  type: 'g-counter' | 'pn-counter',
): number[] {
  const cells = Object.values(lives).flatMap((life) => {
    const state = life.f?.[field];
    return type === 'g-counter' ? Object.values(state?.g ?? {}) : pairParts(state?.p ?? {});
  });
  const amounts = keyed.map((d) => d[field] ?? 0).filter((amount) => type === 'pn-counter' || amount > 0);
  return [...cells, ...amounts];
}

/** The amounts of each distinct request. */
export function keyedAmounts(lives: Lives): Amounts[] {
  const amounts = new Map<string, Amounts>();
  for (const life of Object.values(lives)) {
    for (const request in life.k) {
      const other = amounts.get(request);
      const { d } = life.k[request]!;
      amounts.set(request, other === undefined ? d : mergeAmounts(other, d));
    }
  }
  return [...amounts.values()];
}

export function greatestRegister(lives: Lives, field: string): Register | null {
  const registers = Object.values(lives).flatMap((life) =>
    life.f?.[field]?.r === undefined ? [] : [life.f[field].r],
  );
  return registers.length === 0 ? null : registers.reduce(mergeRegisters);
}
