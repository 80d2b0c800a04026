/**
 * Histories of one key on several nodes, for property tests: the states that laws are claimed for are those that a system can reach, so they are
 * made by playing steps with the production code. Plain data in, states out; the generators are in the tests.
 */
import { hlcFromMs } from './hlc.ts';
import type { CrdtFields } from './crdt/field.ts';
import type { Operations } from './crdt/operation.ts';
import { operateLocally, writeLocally } from './local-write.ts';
import {
  absentState,
  deltaState,
  mergeStates,
  versionsOf,
  type KeyState,
  type KnownRequests,
  type RequestWrite,
  type Stamped,
} from './merge.ts';
import type { Dot, NodeNumber, Version } from './version.ts';

/** A row is named after the write that made it. */
export type Row = string;

export type HistoryStep =
  /** `request` is an index: writes with one index are one request, and a node that knows it does not write it again. */
  | {
      readonly kind: 'write';
      readonly node: number;
      readonly nowMs: number;
      readonly deleted: boolean;
      readonly request: number | null;
    }
  /** Operations on the fields of `fieldTypes`, where a row is. */
  | {
      readonly kind: 'operate';
      readonly node: number;
      readonly nowMs: number;
      readonly operations: Operations;
    }
  /** `to` merges the next change of `from` that it has not had yet. */
  | { readonly kind: 'deliver'; readonly from: number; readonly to: number }
  /** `to` merges the whole state of `from`. */
  | { readonly kind: 'whole'; readonly from: number; readonly to: number };

export const fieldTypes: CrdtFields = { count: 'pn-counter', tags: 'or-set', title: 'lww-register' };

export interface History {
  /** Every state that any node was in, the first ones included. */
  readonly states: readonly KeyState<Row>[];
  /** Every write, in the order of commit. */
  readonly writes: readonly Stamped<Row>[];
  /** Every operation on CRDT fields, with what the row was when it was carried out. */
  readonly operations: readonly {
    readonly dot: Dot;
    readonly operations: Operations;
    readonly on: Stamped<Row>;
  }[];
  /** What each state is published as: a write as a delta, an operation as the whole state. */
  readonly published: readonly KeyState<Row>[];
  /** Of every write that has a request. */
  readonly requests: KnownRequests;
  /** Writes that were the winner of a state that some write replaced: pairs (seen, by). */
  readonly replaced: readonly { readonly old: KeyState<Row>; readonly write: Version }[];
}

interface Node {
  state: KeyState<Row>;
  readonly requests: Map<string, RequestWrite[]>;
  /** Writes of each other node merged so far. */
  readonly position: Map<number, number>;
}

export function requestsOf(versions: readonly Version[]): Map<string, RequestWrite[]> {
  const requests = new Map<string, RequestWrite[]>();
  for (const version of versions) remember(requests, version);
  return requests;
}

export function remember(requests: Map<string, RequestWrite[]>, version: Version): void {
  if (version.request === null) return;
  requests.set(version.request, [...(requests.get(version.request) ?? []), version]);
}

export function play(nodes: number, steps: readonly HistoryStep[]): History {
  const world = Array.from({ length: nodes }, (): Node => ({
    state: absentState,
    requests: new Map(),
    position: new Map(),
  }));
  const logs: KeyState<Row>[][] = world.map(() => []);
  const states: KeyState<Row>[] = [absentState];
  const writes: Stamped<Row>[] = [];
  const replaced: { old: KeyState<Row>; write: Version }[] = [];
  const operations: History['operations'][number][] = [];
  let drawn = 0;
  const merge = (node: Node, incoming: KeyState<Row>): void => {
    for (const { version } of versionsOf(incoming)) remember(node.requests, version);
    node.state = mergeStates(node.state, incoming, node.requests);
    states.push(node.state);
  };
  const operate = (step: HistoryStep & { kind: 'operate' }): void => {
    const at = step.node % nodes;
    drawn += 1;
    const done = operateLocally(world[at]!.state, {
      node: (at + 1) as NodeNumber,
      now: hlcFromMs(step.nowMs),
      drawn,
      fields: fieldTypes,
      operations: step.operations,
      request: null,
    });
    if (done === null) return;
    operations.push({ dot: done.dot, operations: step.operations, on: world[at]!.state.winner! });
    world[at]!.state = done.state;
    states.push(done.state);
    logs[at]!.push(done.state);
  };
  for (const step of steps) {
    if (step.kind === 'operate') {
      operate(step);
      continue;
    }
    if (step.kind === 'write') {
      const at = step.node % nodes;
      const node = world[at]!;
      const request = step.request === null ? null : `request ${step.request}`;
      if (request !== null && node.requests.has(request)) continue;
      drawn += 1;
      const old = node.state;
      const number = (at + 1) as NodeNumber;
      const { state } = writeLocally(old, {
        node: number,
        now: hlcFromMs(step.nowMs),
        drawn,
        deleted: step.deleted,
        row: `${number}.${drawn}`,
        request,
        lives: 'new',
        purgeHorizon: null,
      });
      remember(node.requests, state.winner.version);
      node.state = state;
      states.push(state);
      writes.push(state.winner);
      logs[at]!.push(deltaState(state.winner));
      replaced.push({ old, write: state.winner.version });
      continue;
    }
    const [from, to] = [step.from % nodes, step.to % nodes];
    if (from === to) continue;
    if (step.kind === 'whole') {
      merge(world[to]!, world[from]!.state);
      continue;
    }
    const position = world[to]!.position.get(from) ?? 0;
    const next = logs[from]![position];
    if (next === undefined) continue;
    world[to]!.position.set(from, position + 1);
    merge(world[to]!, next);
  }
  return {
    states,
    writes,
    operations,
    published: logs.flat(),
    requests: requestsOf(writes.map((write) => write.version)),
    replaced,
  };
}
