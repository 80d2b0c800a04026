/**
 * Histories of the CRDT state of one key on several nodes, made by playing steps with the production code, and every event there ever was, for the model
 * (history-model.testing.ts) to say what the states should show. Plain data in, states out; the generators are in the tests.
 */
import { join } from '../clock.ts';
import type { Dot, HlcValue, NodeNumber } from '../version.ts';
import { applyOperations } from './apply-operations.ts';
import type { CrdtFields } from './field.ts';
import { fold } from './fold.ts';
import type { Operations } from './operation.ts';
import { currentLife, livesOf, mergeCrdt, newLife, type CrdtState, type SeenCrdt } from './state.ts';

export const historyFields: CrdtFields = {
  likes: 'g-counter',
  stock: 'pn-counter',
  title: 'lww-register',
  tags: 'or-set',
};

export type CrdtStep =
  | {
      readonly kind: 'operate';
      readonly node: number;
      readonly operations: Operations;
      readonly hlc: bigint;
      readonly request: null;
    }
  /** What a request does depends on nothing but its number. */
  | {
      readonly kind: 'operate';
      readonly node: number;
      readonly operations: null;
      readonly hlc: bigint;
      readonly request: number;
    }
  | { readonly kind: 'insert'; readonly node: number }
  | { readonly kind: 'merge'; readonly from: number; readonly to: number }
  | { readonly kind: 'fold'; readonly node: number };

export interface Event {
  readonly id: number;
  readonly dot: Dot;
  /** Ids of the events that its node had seen. */
  readonly seen: ReadonlySet<number>;
  readonly what:
    | { readonly kind: 'insert' }
    | {
        readonly kind: 'operate';
        readonly life: string;
        readonly operations: Operations;
        readonly request: string | null;
        readonly hlc: bigint;
      };
}

export interface NodeState extends SeenCrdt {
  readonly events: ReadonlySet<number>;
}

export const requestOf = (n: number): string => `0190b2a4-0000-7000-8000-00000000000${n}`;
export const requestOperations = (n: number): Operations =>
  n % 2 === 0
    ? { likes: { increment: n + 1 } }
    : { stock: { decrement: n }, tags: { add: n }, likes: { increment: 100 } };

/** Every state that any node was in, and every event. */
export class CrdtHistory {
  readonly states: NodeState[];
  readonly events: Event[] = [];
  /** Requests that were folded: as in the product, they are refused from then on. */
  readonly folded = new Set<string>();
  readonly current: NodeState[];

  constructor(nodes: number) {
    this.current = Array.from({ length: nodes }, () => ({ crdt: null, seen: {}, events: new Set<number>() }));
    this.states = [...this.current];
  }

  play(step: CrdtStep): void {
    switch (step.kind) {
      case 'merge':
        return this.#become(step.to, mergeNodes(this.current[step.to]!, this.current[step.from]!));
      case 'insert': {
        const dot = this.#draw(step.node);
        return this.#happen(step.node, newLife(dot), dot, { kind: 'insert' });
      }
      case 'operate':
        return this.#operate(step);
      case 'fold':
        return this.#fold(step.node);
    }
  }

  #operate({ node, operations, hlc, request: number }: CrdtStep & { readonly kind: 'operate' }): void {
    const request = number === null ? null : requestOf(number);
    if (request !== null && this.folded.has(request)) return;
    const asked = operations ?? requestOperations(number!);
    const { crdt } = this.current[node]!;
    const dot = this.#draw(node);
    const applied = applyOperations({
      state: crdt,
      fields: historyFields,
      operations: asked,
      dot,
      hlc: hlc as HlcValue,
      request,
    });
    if (!applied.ok) throw new Error(applied.problem.detail);
    const life = currentLife(livesOf(crdt));
    if (applied.changed)
      this.#happen(node, applied.state, dot, { kind: 'operate', life, operations: asked, request, hlc });
  }

  #fold(node: number): void {
    const old = this.current[node]!;
    const crdt = fold({
      state: old.crdt,
      fields: historyFields,
      me: (node + 1) as NodeNumber,
      stable: (request) => {
        if (!this.#seenByAll(request)) return false;
        this.folded.add(request);
        return true;
      },
    });
    if (crdt !== old.crdt) this.#become(node, { ...old, crdt });
  }

  #seenByAll(request: string): boolean {
    const carriedOut = this.events.filter(({ what }) => what.kind === 'operate' && what.request === request);
    return carriedOut.every(({ id }) => this.current.every((node) => node.events.has(id)));
  }

  #draw(node: number): Dot {
    return { origin: (node + 1) as NodeNumber, counter: this.events.length + 1 };
  }

  #happen(node: number, crdt: CrdtState, dot: Dot, what: Event['what']): void {
    const { seen, events } = this.current[node]!;
    const id = this.events.length;
    this.events.push({ id, dot, seen: events, what });
    this.#become(node, {
      crdt,
      seen: { ...seen, [dot.origin]: dot.counter },
      events: new Set([...events, id]),
    });
  }

  #become(node: number, state: NodeState): void {
    this.current[node] = state;
    this.states.push(state);
  }
}

export const mergeNodes = (a: NodeState, b: NodeState): NodeState => ({
  crdt: mergeCrdt(a, b),
  seen: join(a.seen, b.seen),
  events: new Set([...a.events, ...b.events]),
});
