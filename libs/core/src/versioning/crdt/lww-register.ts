/** Registers: the greatest (hlc, origin, counter) stands. Setting one is always greater than what it replaces, however wrong the clock is. Pure. */
import { hlcFromMs, nextHlc } from '../hlc.ts';
import type { Dot, HlcValue, NodeNumber } from '../version.ts';

export type Json = null | boolean | number | string | readonly Json[] | { readonly [key: string]: Json };

/** The hlc is a text: it has more digits than a JSON number holds. */
export type Register = readonly [value: Json, hlc: string, origin: number, counter: number];

export function compareRegisters(a: Register, b: Register): number {
  if (a[1] !== b[1]) return BigInt(a[1]) < BigInt(b[1]) ? -1 : 1;
  return a[2] === b[2] ? a[3] - b[3] : a[2] - b[2];
}

export const mergeRegisters = (a: Register, b: Register): Register => (compareRegisters(b, a) > 0 ? b : a);

export interface SetRegister {
  readonly value: Json;
  readonly hlc: HlcValue;
  readonly dot: Dot;
}

/** `current` is the greatest that is seen. */
export const setRegister = (current: Register | null, { value, hlc, dot }: SetRegister): Register => [
  value,
  nextHlc(hlc, current === null ? null : (BigInt(current[1]) as HlcValue)).toString(),
  dot.origin,
  dot.counter,
];

/**
 * A register in which the last writer wins, as a value: no method changes it. Time comes from the caller.
 *
 *     const here = new LwwRegister<string>(1).set('blue', Date.now());
 *     here.merge(there).value; // what was set last; of two at the same time, what the node with the greater number set
 */
export class LwwRegister<T extends Json = Json> {
  readonly node: NodeNumber;
  readonly #register: Register | null;

  constructor(node: number, register: Register | null = null) {
    this.node = node as NodeNumber;
    this.#register = register;
  }

  set(value: T, wallMs: number): LwwRegister<T> {
    // The hlc grows with each value that a node sets over what it sees, so it orders a node's own values too.
    const dot: Dot = { origin: this.node, counter: (this.#register?.[3] ?? 0) + 1 };
    return new LwwRegister<T>(this.node, setRegister(this.#register, { value, hlc: hlcFromMs(wallMs), dot }));
  }

  merge(other: LwwRegister<T>): LwwRegister<T> {
    const [ours, theirs] = [this.#register, other.#register];
    return new LwwRegister<T>(
      this.node,
      ours === null ? theirs : theirs === null ? ours : mergeRegisters(ours, theirs),
    );
  }

  /** Null when nothing was set. */
  get value(): T | null {
    return (this.#register?.[0] ?? null) as T | null;
  }

  toJSON(): Register | null {
    return this.#register;
  }
}
