/**
 * Counters that only grow: each node counts in a cell of its own, which only it writes and which never goes down, so of two states of a cell the
 * greater one is the newer. The value is the sum. Pure.
 */
import { PgquorumError } from '../../errors/error.ts';
import type { NodeNumber } from '../version.ts';
import { sumOf } from './sum.ts';

/** Node -> all that it has counted. */
export type Cells = { readonly [node: string]: number };

export const noCells: Cells = Object.freeze({});

export function mergeCells(a: Cells, b: Cells): Cells {
  if (a === b) return a;
  let merged: Record<string, number> | undefined;
  for (const node in b) {
    if (b[node]! <= (a[node] ?? 0)) continue;
    merged ??= { ...a };
    merged[node] = b[node]!;
  }
  return merged ?? a;
}

/** Null when the cell would be beyond what a number holds exactly. */
export function addToCell(cells: Cells, node: number, amount: number): Cells | null {
  const total = (cells[node] ?? 0) + amount;
  return Number.isSafeInteger(total) ? { ...cells, [node]: total } : null;
}

/** What is counted: 1, 2, 3, ... up to 2^53 - 1. */
export const isAmount = (value: unknown): value is number =>
  Number.isSafeInteger(value) && (value as number) > 0;

export function checkAmount(amount: number): void {
  if (!isAmount(amount))
    throw new PgquorumError('invalid_request', 'the amount must be a whole number of at least 1');
}

/**
 * A counter that only grows, as a value: no method changes it, `increment` and `merge` return the next one.
 *
 *     const here = new GCounter(1).increment();
 *     const there = new GCounter(2).increment(4);
 *     here.merge(there).value; // 5
 */
export class GCounter {
  readonly node: NodeNumber;
  readonly cells: Cells;

  /** Each node, and each life of a node that lost its memory, must count under a number of its own. */
  constructor(node: number, cells: Cells = noCells) {
    this.node = node as NodeNumber;
    this.cells = cells;
  }

  increment(amount = 1): GCounter {
    checkAmount(amount);
    const cells = addToCell(this.cells, this.node, amount);
    if (cells === null) throw new PgquorumError('invalid_request', 'the counter would be beyond 2^53 - 1');
    return new GCounter(this.node, cells);
  }

  merge(other: GCounter): GCounter {
    return new GCounter(this.node, mergeCells(this.cells, other.cells));
  }

  /** At most 2^53 - 1. */
  get value(): number {
    return sumOf(Object.values(this.cells));
  }

  toJSON(): Cells {
    return this.cells;
  }
}
