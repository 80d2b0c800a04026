/**
 * What operations make of a state on the node that carries them out. Pure. pgquorum.crdt_apply does the same in SQL; an integration test holds them
 * to each other.
 */
import { unreachable } from '../../errors/error.ts';
import type { Dot, HlcValue } from '../version.ts';
import { fieldState, type CrdtFields, type FieldState } from './field.ts';
import { addToCell, noCells } from './g-counter.ts';
import { emptyIncarnation, type Incarnation } from './incarnation.ts';
import { setRegister } from './lww-register.ts';
import { operationProblem, type CrdtProblem, type Operation, type Operations } from './operation.ts';
import { addElement, elementsMax, elementText, removeElement, type Element } from './or-set.ts';
import { addToPair, noPairs } from './pn-counter.ts';
import { currentLife, livesOf, type CrdtState, type Lives } from './state.ts';
import { sumOverflows } from './sum.ts';
import { counterParts, greatestRegister, keyedAmounts } from './values.ts';
import { unlessEmpty } from './unless-empty.ts';

export interface ApplyOperations {
  readonly state: CrdtState;
  readonly fields: CrdtFields;
  readonly operations: Operations;
  /** Drawn for these operations; the key's `seen` must cover it from now on. */
  readonly dot: Dot;
  readonly hlc: HlcValue;
  /** Lower-case UUID of the request, for repeats on other masters; null: nobody repeats it. */
  readonly request: string | null;
}

export type AppliedOperations =
  /** `changed` is false when the request was carried out already: the state is the one that was given. */
  | { readonly ok: true; readonly state: CrdtState; readonly changed: boolean }
  | { readonly ok: false; readonly problem: CrdtProblem };

/** All of them or none. */
export function applyOperations(input: ApplyOperations): AppliedOperations {
  const { state, fields, operations, dot, request } = input;
  let lives = livesOf(state);
  const names = Object.keys(operations).sort();
  for (const field of names) {
    const problem = operationProblem(field, operations[field], fields);
    if (problem !== null) return { ok: false, problem };
  }
  if (request !== null && knowsRequest(lives, request)) return { ok: true, state, changed: false };
  const amounts: Record<string, number> = {};
  for (const field of names) {
    const change = changeField(lives, field, operations[field]!, input);
    if (!change.ok) return change;
    lives = change.lives;
    if (change.keyed !== undefined) amounts[field] = change.keyed;
  }
  const life = currentLife(lives);
  const ops = { ...lives[life]!.ops, [dot.origin]: dot.counter };
  const next: Incarnation = { ...lives[life]!, ops };
  const keyed = unlessEmpty(amounts);
  return {
    ok: true,
    changed: true,
    state: {
      ...lives,
      [life]:
        request === null || keyed === undefined
          ? next
          : { ...next, k: { ...next.k, [request]: { at: { [dot.origin]: dot.counter }, d: keyed } } },
    },
  };
}

const knowsRequest = (lives: Lives, request: string): boolean =>
  Object.values(lives).some((life) => life.k?.[request] !== undefined);

type Changed =
  | { readonly ok: true; readonly lives: Lives; readonly keyed?: number }
  | { readonly ok: false; readonly problem: CrdtProblem };

function changeField(lives: Lives, field: string, operation: Operation, input: ApplyOperations): Changed {
  if ('increment' in operation) return count(lives, field, operation.increment, input);
  if ('decrement' in operation) return count(lives, field, -operation.decrement, input);
  if ('add' in operation) return add(lives, field, operation.add, input.dot);
  if ('remove' in operation) return { ok: true, lives: remove(lives, field, operation.remove) };
  if ('set' in operation) {
    const { dot, hlc } = input;
    const r = setRegister(greatestRegister(lives, field), { value: operation.set, hlc, dot });
    return { ok: true, lives: withField(lives, currentLife(lives), field, { r }) };
  }
  return unreachable(operation);
}

const overflow = (field: string, detail: string): Changed => ({
  ok: false,
  problem: { code: 'crdt_overflow', field, detail: `crdt.${field}: ${detail}` },
});

function count(lives: Lives, field: string, amount: number, input: ApplyOperations): Changed {
  const type = input.fields[field] === 'g-counter' ? 'g-counter' : 'pn-counter';
  const beyond = overflow(field, 'the counter would be beyond 9007199254740991');
  if (sumOverflows(counterParts(lives, keyedAmounts(lives), field, type), amount)) return beyond;
  if (input.request !== null) return { ok: true, lives, keyed: amount };
  const counted = addToOwn(lives, { life: currentLife(lives), field, type, node: input.dot.origin, amount });
  return counted === null ? beyond : { ok: true, lives: counted };
}

export interface OwnAmount {
  readonly life: string;
  readonly field: string;
  readonly type: 'g-counter' | 'pn-counter';
  readonly node: number;
  readonly amount: number;
}

/** Adds to a node's own cell; null when that would be beyond what a number holds exactly. */
export function addToOwn(lives: Lives, { life, field, type, node, amount }: OwnAmount): Lives | null {
  const state = lives[life]!.f?.[field];
  if (type === 'g-counter') {
    const g = addToCell(state?.g ?? noCells, node, amount);
    return g === null ? null : withField(lives, life, field, { g });
  }
  const p = addToPair(state?.p ?? noPairs, node, amount);
  return p === null ? null : withField(lives, life, field, { p });
}

function add(lives: Lives, field: string, value: Element, dot: Dot): Changed {
  const life = currentLife(lives);
  const elements = lives[life]!.f?.[field]?.s ?? {};
  const element = elementText(value)!;
  if (!Object.hasOwn(elements, element) && Object.keys(elements).length >= elementsMax)
    return overflow(field, `the set would have more than ${elementsMax} elements`);
  return { ok: true, lives: withField(lives, life, field, { s: addElement(elements, element, dot) }) };
}

/** In all lives: the element is to be gone. */
function remove(lives: Lives, field: string, value: Element): Lives {
  const element = elementText(value)!;
  let next = lives;
  for (const life in lives) {
    const s = lives[life]!.f?.[field]?.s;
    if (s !== undefined && Object.hasOwn(s, element))
      next = withField(next, life, field, { s: removeElement(s, element) });
  }
  return next;
}

/** With these parts of one field replaced. */
function withField(lives: Lives, life: string, field: string, parts: Partial<FieldState>): Lives {
  const { f = {}, ...rest } = lives[life] ?? emptyIncarnation;
  const { [field]: old, ...others } = f;
  const state = fieldState({ g: old?.g, p: old?.p, r: old?.r, s: old?.s, ...parts });
  const next = unlessEmpty(state === undefined ? others : { ...others, [field]: state });
  return { ...lives, [life]: next === undefined ? rest : { ...rest, f: next } };
}
