/**
 * What a write that is committed on this node does to a key's state: the rule of the triggers (collections/trigger.ts) in TypeScript. Pure.
 * The simulation and the property tests write with it; an integration test holds the triggers to it.
 *
 * Invariant: the new version has seen all that this node had, and is greater in the version order than all of it, however wrong the wall
 * clock is. So it replaces the winner and every open loser, here and wherever it arrives.
 */
import { nextHlc } from './hlc.ts';
import type { KeyState } from './merge.ts';
import type { Dot, Epoch, HlcValue, NodeNumber, Version } from './version.ts';

export interface LocalWrite<R> {
  readonly node: NodeNumber;
  readonly now: HlcValue;
  /** The counter that the node's sequence gave. */
  readonly drawn: number;
  readonly deleted: boolean;
  readonly row: R;
  readonly request: string | null;
  /** Versions up to here may have been purged with their tombstones: a write of an absent key must be greater. */
  readonly purgeHorizon: HlcValue | null;
}

export interface LocallyWritten<R> {
  readonly state: KeyState<R> & { readonly winner: NonNullable<KeyState<R>['winner']> };
  /** Dots of the losers that were open: their records advance to `superseded`, and that is published. */
  readonly superseded: readonly Dot[];
  /** What the node's sequence must have reached before it gives the next counter: beyond `drawn` when the sequence had gone back. */
  readonly sequence: number;
}

const noEpoch = 0n as Epoch;

export function writeLocally<R>(state: KeyState<R>, write: LocalWrite<R>): LocallyWritten<R> {
  const old = state.winner?.version ?? null;
  const floor =
    write.purgeHorizon !== null && write.purgeHorizon > write.now ? write.purgeHorizon : write.now;
  const counter = Math.max(write.drawn, (state.seen[write.node] ?? 0) + 1);
  const clock = { ...state.seen, [write.node]: counter };
  const version: Version = {
    // Inherited, never lowered: the version order looks at them first.
    rank: old?.rank ?? 0,
    epoch: old?.epoch ?? noEpoch,
    hlc: nextHlc(floor, old?.hlc ?? null),
    dot: { origin: write.node, counter },
    clock,
    deleted: write.deleted,
    request: write.request,
    crdt: null,
  };
  return {
    state: { winner: { version, row: write.row }, seen: clock, losers: [] },
    superseded: state.losers.map((one) => one.version.dot),
    sequence: counter,
  };
}
