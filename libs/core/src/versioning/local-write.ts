/**
 * What a write that is committed on this node does to a key's state: the rule of the triggers (collections/trigger.ts) in TypeScript. Pure.
 * The simulation and the property tests write with it; an integration test holds the triggers to it.
 *
 * Invariant: the new version has seen all that this node had, and is greater in the version order than all of it, however wrong the wall
 * clock is. So it replaces the winner and every open loser, here and wherever it arrives.
 */
import { PgquorumError } from '../errors/error.ts';
import { applyOperations } from './crdt/apply-operations.ts';
import type { CrdtFields } from './crdt/field.ts';
import type { Operations } from './crdt/operation.ts';
import { newLife, type CrdtState } from './crdt/state.ts';
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
  /** The place of the embedding model that the write names; null = none, then the key keeps its rank. */
  readonly rank?: number | null;
  /** Whether the collection has CRDT fields: then an insert where no row was begins their life anew, unless it brings a deleted row back. */
  readonly lives?: 'new' | 'kept';
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
    rank: Math.max(write.rank ?? 0, old?.rank ?? 0),
    epoch: old?.epoch ?? noEpoch,
    hlc: nextHlc(floor, old?.hlc ?? null),
    dot: { origin: write.node, counter },
    clock,
    deleted: write.deleted,
    request: write.request,
    crdt: crdtAfter(old, write, { origin: write.node, counter }),
  };
  return {
    state: { winner: { version, row: write.row }, seen: clock, losers: [] },
    superseded: state.losers.map((one) => one.version.dot),
    sequence: counter,
  };
}

function crdtAfter<R>(old: Version | null, { deleted, lives }: LocalWrite<R>, dot: Dot): CrdtState {
  if (lives === undefined || (old === null && deleted)) return old?.crdt ?? null;
  if (old === null) return newLife(dot);
  return old.deleted && !deleted && lives === 'new' ? newLife(dot) : old.crdt;
}

export interface LocalOperation {
  readonly node: NodeNumber;
  readonly now: HlcValue;
  readonly drawn: number;
  readonly fields: CrdtFields;
  readonly operations: Operations;
  readonly request: string | null;
}

/** Operations on the CRDT fields of a living row: what was seen grows by their dot, and the row's version stays what it is. Null where no row is, and where the request was carried out already. */
export function operateLocally<R>(
  state: KeyState<R>,
  { node, now, drawn, fields, operations, request }: LocalOperation,
): { readonly state: KeyState<R>; readonly dot: Dot; readonly sequence: number } | null {
  if (state.winner === null || state.winner.version.deleted) return null;
  const { version, row } = state.winner;
  const counter = Math.max(drawn, (state.seen[node] ?? 0) + 1);
  const dot = { origin: node, counter };
  const hlc = nextHlc(now, version.hlc);
  const applied = applyOperations({ state: version.crdt, fields, operations, dot, hlc, request });
  if (!applied.ok) throw new PgquorumError('invalid_request', applied.problem.detail);
  if (!applied.changed) return null;
  return {
    state: {
      winner: { version: { ...version, crdt: applied.state }, row },
      seen: { ...state.seen, [node]: counter },
      losers: state.losers,
    },
    dot,
    sequence: counter,
  };
}
