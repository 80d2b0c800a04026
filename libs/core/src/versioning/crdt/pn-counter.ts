/** Counters that go both ways: each node adds up what it added and what it took away, in a pair that only it writes. Pure. */
import { PgquorumError } from '../../errors/error.ts';
import type { NodeNumber } from '../version.ts';
import { checkAmount } from './g-counter.ts';
import { sumOf } from './sum.ts';

/** Node -> [all that it added, all that it took away]. Neither ever goes down. */
export type Pairs = { readonly [node: string]: Pair };
export type Pair = readonly [plus: number, minus: number];

export const noPairs: Pairs = Object.freeze({});

export function mergePairs(a: Pairs, b: Pairs): Pairs {
  if (a === b) return a;
  let merged: Record<string, Pair> | undefined;
  for (const node in b) {
    const [plus, minus] = b[node]!;
    const ours = a[node];
    if (ours !== undefined && ours[0] >= plus && ours[1] >= minus) continue;
    merged ??= { ...a };
    merged[node] = ours === undefined ? b[node]! : [Math.max(ours[0], plus), Math.max(ours[1], minus)];
  }
  return merged ?? a;
}

/** Null when the pair would be beyond what a number holds exactly. */
export function addToPair(pairs: Pairs, node: number, amount: number): Pairs | null {
  const [plus, minus] = pairs[node] ?? [0, 0];
  const pair: Pair = amount > 0 ? [plus + amount, minus] : [plus, minus - amount];
  return pair.every(Number.isSafeInteger) ? { ...pairs, [node]: pair } : null;
}

/** What adds up to the value. */
export const pairParts = (pairs: Pairs): number[] =>
  Object.values(pairs).flatMap(([plus, minus]) => [plus, -minus]);

/**
 * A counter that goes both ways, as a value: no method changes it.
 *
 *     new PNCounter(1).increment(3).merge(new PNCounter(2).decrement()).value; // 2
 */
export class PNCounter {
  readonly node: NodeNumber;
  readonly pairs: Pairs;

  /** Each node, and each life of a node that lost its memory, must count under a number of its own. */
  constructor(node: number, pairs: Pairs = noPairs) {
    this.node = node as NodeNumber;
    this.pairs = pairs;
  }

  increment(amount = 1): PNCounter {
    checkAmount(amount);
    return this.#add(amount);
  }

  decrement(amount = 1): PNCounter {
    checkAmount(amount);
    return this.#add(-amount);
  }

  merge(other: PNCounter): PNCounter {
    return new PNCounter(this.node, mergePairs(this.pairs, other.pairs));
  }

  /** Between -(2^53 - 1) and 2^53 - 1. */
  get value(): number {
    return sumOf(pairParts(this.pairs));
  }

  toJSON(): Pairs {
    return this.pairs;
  }

  #add(amount: number): PNCounter {
    const pairs = addToPair(this.pairs, this.node, amount);
    if (pairs === null) throw new PgquorumError('invalid_request', 'the counter would be beyond 2^53 - 1');
    return new PNCounter(this.node, pairs);
  }
}
