/**
 * Keys that masters draw from sequences. Each master has a sequence of its own under one name: left alone, all of them would give the same numbers to
 * different rows, and one row of each pair would be lost to the other. They are apart when they step by at least the number of masters and stand at
 * different remainders, or when their ranges do not meet. Pure.
 */
import type { ColumnSequence, ExistingTable, NodeTable } from './existing-table.ts';
import { quoteTable } from '../postgres/identifier.ts';

export interface KeySequences {
  /** Null when the sequences are apart; else the statements that set them apart, one for each node that has the table. */
  readonly statements: readonly { readonly node: string; readonly statement: string }[] | null;
  /** Column -> what its sequence is to be on a node that gets the table. */
  readonly created: ReadonlyMap<
    string,
    ReadonlyMap<string, { readonly start: bigint; readonly increment: bigint }>
  >;
}

/** So many numbers may be drawn between a look at a sequence and its change. */
const margin = 10_000n;

const sequenceOf = (table: ExistingTable, column: string): ColumnSequence | null =>
  table.columns.find((one) => one.name === column)?.sequence ?? null;

export function keySequences(nodes: readonly NodeTable[]): KeySequences {
  const holders = nodes.flatMap(({ node, table }) => (table === null ? [] : [{ node, table }]));
  const statements: { node: string; statement: string }[] = [];
  const created = new Map<string, Map<string, { start: bigint; increment: bigint }>>();
  for (const column of holders[0]?.table.key?.columns ?? []) {
    const drawn = holders.flatMap(({ node, table }) => {
      const sequence = sequenceOf(table, column);
      return sequence === null ? [] : [{ node, sequence }];
    });
    if (drawn.length === 0 || nodes.length < 2) continue;
    const missing = nodes.filter(({ table }) => table === null).map(({ node }) => node);
    const steps = apartBySteps(
      drawn.map(({ sequence }) => sequence),
      nodes.length,
    );
    if (steps === null) {
      if (missing.length > 0 || !apartByRange(drawn.map(({ sequence }) => sequence)))
        statements.push(...offered(drawn, nodes));
      continue;
    }
    created.set(
      column,
      free(
        drawn.map(({ sequence }) => sequence),
        missing,
        steps,
      ),
    );
  }
  return { statements: statements.length === 0 ? null : statements, created };
}

const remainder = (value: bigint, by: bigint): bigint => ((value % by) + by) % by;
const at = (sequence: ColumnSequence): bigint => BigInt(sequence.position ?? sequence.start);
const highest = (sequences: readonly ColumnSequence[]): bigint =>
  sequences.map(at).reduce((a, b) => (a > b ? a : b));

/** The step that keeps them apart, or null. */
function apartBySteps(sequences: readonly ColumnSequence[], nodes: number): bigint | null {
  const step = BigInt(sequences[0]!.increment);
  const even = sequences.every((one) => BigInt(one.increment) === step && !one.cycle);
  const places = new Set(sequences.map((one) => remainder(at(one), step < 0n ? -step : step)));
  return even && step >= BigInt(nodes) && places.size === sequences.length ? step : null;
}

function apartByRange(sequences: readonly ColumnSequence[]): boolean {
  const ranges = sequences
    .map((one) => ({ from: at(one), to: BigInt(one.max) }))
    .sort((a, b) => (a.from < b.from ? -1 : 1));
  const upwards = sequences.every((one) => BigInt(one.increment) > 0n && !one.cycle);
  return upwards && ranges.every((range, place) => place === 0 || ranges[place - 1]!.to < range.from);
}

/** Every second holder of the same remainder moves on to one that is free; numbers begin beyond all that were given. */
function free(
  sequences: readonly ColumnSequence[],
  missing: readonly string[],
  step: bigint,
): Map<string, { start: bigint; increment: bigint }> {
  const taken = new Set(sequences.map((one) => remainder(at(one), step)));
  const base = highest(sequences) + margin;
  const places = new Map<string, { start: bigint; increment: bigint }>();
  let start = base;
  for (const node of missing) {
    while (taken.has(remainder(start, step))) start += 1n;
    taken.add(remainder(start, step));
    places.set(node, { start, increment: step });
  }
  return places;
}

function offered(
  drawn: readonly { readonly node: string; readonly sequence: ColumnSequence }[],
  nodes: readonly NodeTable[],
): { node: string; statement: string }[] {
  const step = BigInt(nodes.length);
  const base = (highest(drawn.map(({ sequence }) => sequence)) / step + 1n + margin / step) * step;
  return drawn.map(({ node, sequence }) => {
    const place = BigInt(nodes.findIndex((one) => one.node === node));
    return {
      node,
      statement: `alter sequence ${quoteTable(sequence)} increment by ${step} restart with ${base + place}`,
    };
  });
}
