/** What identifies and orders a write. Pure. See docs/architecture.md for the words. */
import type { Clock } from './clock.ts';
import type { CrdtState } from './crdt/state.ts';

declare const brand: unique symbol;
type Brand<T, B extends string> = T & { readonly [brand]?: B };
/** A node's number: a smallint that is never reused. */
export type NodeNumber = Brand<number, 'NodeNumber'>;
/** 48-bit milliseconds << 16 | 16-bit logical part. */
export type HlcValue = Brand<bigint, 'Hlc'>;
export type ShardNumber = Brand<number, 'Shard'>;
export type Epoch = Brand<bigint, 'Epoch'>;

/** The unique name of one write. */
export interface Dot {
  readonly origin: NodeNumber;
  readonly counter: number;
}

export interface Version {
  readonly rank: number;
  readonly epoch: Epoch;
  readonly hlc: HlcValue;
  readonly dot: Dot;
  /** What the write had seen, its own dot included. */
  readonly clock: Clock;
  readonly deleted: boolean;
  /** Id of the gateway request that made the write, for repeats on other coordinators. */
  readonly request: string | null;
  /** State of the key's CRDT fields, merged from all that was seen when this was written; in a winner also from what came since. */
  readonly crdt: CrdtState;
}

/** Total order (rank, epoch, hlc, origin, counter): the greatest wins. Ties are broken by the node's number, never by arrival. */
export function compareVersions(a: Version, b: Version): number {
  if (a.rank !== b.rank) return a.rank - b.rank;
  if (a.epoch !== b.epoch) return a.epoch < b.epoch ? -1 : 1;
  if (a.hlc !== b.hlc) return a.hlc < b.hlc ? -1 : 1;
  if (a.dot.origin !== b.dot.origin) return a.dot.origin - b.dot.origin;
  return a.dot.counter - b.dot.counter;
}

export const sameDot = (a: Dot, b: Dot): boolean => a.origin === b.origin && a.counter === b.counter;

/** A version's text in `ETag`, `If-Match` and logs. */
export const dotText = (dot: Dot): string => `${dot.origin}.${dot.counter}`;
