/**
 * Vector clocks as values, for use alone: what a node has seen of each other node. The functions are those that versions are compared with (clock.ts). Pure.
 *
 *     const here = new VectorClock().increment(1);
 *     const there = here.increment(2);
 *     here.compare(there); // 'before'
 *     here.increment(1).compare(there); // 'concurrent'
 */
import { PgquorumError } from '../errors/error.ts';
import { compareClocks, covers, join, type Clock, type ClockOrder } from './clock.ts';
import type { Dot, NodeNumber } from './version.ts';

/** What `pgquorum.v1.Clock` looks like to protobuf: a `map<uint32, uint64>`. */
export interface ClockMessage {
  readonly counters: { readonly [node: string]: number };
}

/** 64-bit numbers come out of protobuf in one of these forms, depending on how it was told to read them. */
export type Counter = number | string | bigint | { toString(): string };

/** One event and what its node had seen before it. */
export interface DottedClock {
  readonly dot: Dot;
  readonly context: VectorClock;
}

export class VectorClock {
  /** Node -> counter; no entry stands for 0. */
  readonly counters: Clock;

  constructor(counters: Clock = {}) {
    this.counters = checkedClock(counters);
  }

  /** Of JSON as `toJSON` gives it. */
  static fromJSON(value: unknown): VectorClock {
    if (typeof value !== 'object' || value === null || Array.isArray(value))
      throw invalidClock('must be an object, node number to counter');
    return new VectorClock(value as Clock);
  }

  static fromProto({
    counters,
  }: {
    readonly counters?: { readonly [node: string]: Counter } | null;
  }): VectorClock {
    return new VectorClock(
      Object.fromEntries(
        Object.entries(counters ?? {}).map(([node, counter]) => [node, Number(counter.toString())]),
      ),
    );
  }

  /** The clock after an event: what was seen before it, and itself. */
  static fromDotted({ dot, context }: DottedClock): VectorClock {
    return new VectorClock({
      ...context.counters,
      [dot.origin]: Math.max(dot.counter, context.get(dot.origin)),
    });
  }

  /** What all of these have seen: the greatest clock that is before or equal to each. Nothing, of none. */
  static meet(clocks: readonly VectorClock[]): VectorClock {
    const [first, ...others] = clocks;
    const entries = Object.entries(first?.counters ?? {}).map(
      ([node, counter]) => [node, Math.min(counter, ...others.map((one) => one.get(Number(node))))] as const,
    );
    return new VectorClock(Object.fromEntries(entries));
  }

  get(node: number): number {
    return this.counters[node] ?? 0;
  }

  /** After one more event of a node. */
  increment(node: number): VectorClock {
    return new VectorClock({ ...this.counters, [node]: this.get(node) + 1 });
  }

  /** What either has seen. */
  merge(other: VectorClock): VectorClock {
    const counters = join(this.counters, other.counters);
    return counters === this.counters ? this : new VectorClock(counters);
  }

  /** `before`: the other has seen all of this, and more. `concurrent`: each has seen something that the other has not. */
  compare(other: VectorClock): ClockOrder {
    return compareClocks(this.counters, other.counters);
  }

  /** Has it seen this event? */
  covers(dot: Dot): boolean {
    return covers(this.counters, dot);
  }

  /** As the last event of a node and what had been seen before it: two events are concurrent when neither's clock covers the other's dot. */
  dotted(node: number): DottedClock {
    const counter = this.get(node);
    if (counter === 0) throw invalidClock(`has seen no event of node ${node}`);
    return {
      dot: { origin: node as NodeNumber, counter },
      context: new VectorClock({ ...this.counters, [node]: counter - 1 }),
    };
  }

  /**
   * Without the entries of retired nodes, so that clocks do not grow with every node that there ever was. Only entries within `stable` go, which
   * must be the meet of what *all* replicas have seen of the key, those that are down included.
   *
   * That is safe since whatever is written from then on has seen that much of the retired nodes, which write no more: between clocks that include
   * `stable` the order stays as it is, as long as both are pruned, or neither. Between older ones it may be lost: none may be left that is still to be
   * compared (an open conflict, a message under way).
   */
  prune({
    retired,
    stable,
  }: {
    readonly retired: Iterable<number>;
    readonly stable: VectorClock;
  }): VectorClock {
    const gone = new Set(retired);
    const kept = Object.entries(this.counters).filter(
      ([node, counter]) => !gone.has(Number(node)) || counter > stable.get(Number(node)),
    );
    return new VectorClock(Object.fromEntries(kept));
  }

  /** One object of small numbers, `{"1":5,"3":2}`, by ascending node: as the version tables hold it. */
  toJSON(): Clock {
    return this.counters;
  }

  toProto(): ClockMessage {
    return { counters: this.counters };
  }

  /** For logs: `1.5 3.2`. */
  toString(): string {
    return Object.entries(this.counters)
      .map(([node, counter]) => `${node}.${counter}`)
      .join(' ');
  }
}

const nodeMax = 2 ** 32 - 1;

function checkedClock(counters: Clock): Clock {
  const checked: Record<string, number> = {};
  for (const [node, counter] of Object.entries(counters)) {
    if (!/^[1-9]\d{0,9}$/.test(node) || Number(node) > nodeMax)
      throw invalidClock(`${node} is no node number`);
    if (!Number.isSafeInteger(counter) || counter < 0)
      throw invalidClock(`the counter of node ${node} is no whole number from 0 to 2^53 - 1`);
    if (counter > 0) checked[node] = counter;
  }
  return Object.freeze(checked);
}

const invalidClock = (detail: string): PgquorumError =>
  new PgquorumError('invalid_request', `vector clock: ${detail}`);
