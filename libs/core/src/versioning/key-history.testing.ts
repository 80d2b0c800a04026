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
  const player = new Player(nodes);
  for (const step of steps) player.step(step);
  return player.history();
}

class Player {
  readonly #world: readonly Node[];
  readonly #logs: readonly KeyState<Row>[][];
  readonly #states: KeyState<Row>[] = [absentState];
  readonly #writes: Stamped<Row>[] = [];
  readonly #replaced: { old: KeyState<Row>; write: Version }[] = [];
  readonly #operations: History['operations'][number][] = [];
  #drawn = 0;

  constructor(nodes: number) {
    this.#world = Array.from({ length: nodes }, (): Node => ({
      state: absentState,
      requests: new Map(),
      position: new Map(),
    }));
    this.#logs = this.#world.map(() => []);
  }

  step(step: HistoryStep): void {
    switch (step.kind) {
      case 'operate':
        return this.#operate(step);
      case 'write':
        return this.#write(step);
      case 'deliver':
      case 'whole': {
        const [from, to] = [step.from % this.#world.length, step.to % this.#world.length];
        if (from === to) return;
        if (step.kind === 'whole') return this.#merge(this.#world[to]!, this.#world[from]!.state);
        const position = this.#world[to]!.position.get(from) ?? 0;
        const next = this.#logs[from]![position];
        if (next === undefined) return;
        this.#world[to]!.position.set(from, position + 1);
        this.#merge(this.#world[to]!, next);
      }
    }
  }

  #merge(node: Node, incoming: KeyState<Row>): void {
    for (const { version } of versionsOf(incoming)) remember(node.requests, version);
    node.state = mergeStates(node.state, incoming, node.requests);
    this.#states.push(node.state);
  }

  #operate(step: HistoryStep & { kind: 'operate' }): void {
    const at = step.node % this.#world.length;
    const node = this.#world[at]!;
    this.#drawn += 1;
    const done = operateLocally(node.state, {
      node: (at + 1) as NodeNumber,
      now: hlcFromMs(step.nowMs),
      drawn: this.#drawn,
      fields: fieldTypes,
      operations: step.operations,
      request: null,
    });
    if (done === null) return;
    this.#operations.push({ dot: done.dot, operations: step.operations, on: node.state.winner! });
    node.state = done.state;
    this.#states.push(done.state);
    this.#logs[at]!.push(done.state);
  }

  #write(step: HistoryStep & { kind: 'write' }): void {
    const at = step.node % this.#world.length;
    const node = this.#world[at]!;
    const request = step.request === null ? null : `request ${step.request}`;
    if (request !== null && node.requests.has(request)) return;
    this.#drawn += 1;
    const old = node.state;
    const number = (at + 1) as NodeNumber;
    const { state } = writeLocally(old, {
      node: number,
      now: hlcFromMs(step.nowMs),
      drawn: this.#drawn,
      deleted: step.deleted,
      row: `${number}.${this.#drawn}`,
      request,
      lives: 'new',
      purgeHorizon: null,
    });
    remember(node.requests, state.winner.version);
    node.state = state;
    this.#states.push(state);
    this.#writes.push(state.winner);
    this.#logs[at]!.push(deltaState(state.winner));
    this.#replaced.push({ old, write: state.winner.version });
  }

  history(): History {
    return {
      states: this.#states,
      writes: this.#writes,
      operations: this.#operations,
      published: this.#logs.flat(),
      requests: requestsOf(this.#writes.map((write) => write.version)),
      replaced: this.#replaced,
    };
  }
}
