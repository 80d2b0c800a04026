/**
 * What is told when the state of a replica or an edge changes. A state counts once it was seen twice in a row, so that one answer that was late tells
 * nothing. Pure.
 */
import type { EventType } from '../events/event.ts';
import type { ReplicaView } from './replica-status.ts';
import type { Edge } from './status.ts';

export type WatchKind = 'replica' | 'edge' | 'lag';

export interface Observation {
  readonly kind: WatchKind;
  readonly origin: number;
  readonly target: number;
  readonly state: string;
  /** Fields of the event beside its state. */
  readonly facts: Readonly<Record<string, unknown>>;
}

/** A state that is another one than the one told last; `was` is null the first time. */
export interface Transition extends Observation {
  readonly was: string | null;
}

export interface Told {
  readonly type: EventType;
  readonly body: Readonly<Record<string, unknown>>;
}

export const keyOf = ({ kind, origin, target }: Omit<Observation, 'state' | 'facts'>): string =>
  `${kind} ${origin} ${target}`;

export interface Watched {
  readonly replicas: readonly ReplicaView[];
  readonly edges: readonly Edge[];
  readonly numberOf: (name: string) => number;
  readonly lagExceededMs: number;
  /** What was told last, by keyOf. */
  readonly told: ReadonlyMap<string, string>;
}

export function observe({ replicas, edges, numberOf, lagExceededMs, told }: Watched): Observation[] {
  const ofReplicas = replicas.map(({ id, status, lagMs, lastSync }): Observation => {
    const number = numberOf(id);
    return { kind: 'replica', origin: number, target: number, state: status, facts: { lagMs, lastSync } };
  });
  const ofEdges = edges.flatMap((edge): Observation[] => {
    const pair = { origin: numberOf(edge.from), target: numberOf(edge.to) };
    const { ms, bytes, changes, problem } = edge;
    const facts = { ms, bytes, changes, problem };
    const lag = { kind: 'lag', ...pair } as const;
    // Half of it before it is over: a lag about the limit is told once.
    const over = told.get(keyOf(lag)) === 'exceeded' ? ms !== null && ms < lagExceededMs / 2 : null;
    const exceeded = over === null ? ms !== null && ms > lagExceededMs : !over;
    return [
      { kind: 'edge', ...pair, state: edge.state, facts },
      { ...lag, state: exceeded ? 'exceeded' : 'over', facts: { ...facts, limitMs: lagExceededMs } },
    ];
  });
  return [...ofReplicas, ...ofEdges];
}

/** Those that were the same the last time. `before` is changed to what is seen now. */
export function settled(observations: readonly Observation[], before: Map<string, string>): Observation[] {
  return observations.filter((one) => {
    const key = keyOf(one);
    const same = before.get(key) === one.state;
    before.set(key, one.state);
    return same;
  });
}

/** Null for what is not worth an event: an edge that was never behind, or that changes from one trouble to another. */
export function eventOf({ kind, origin, target, state, was, facts }: Transition): Told | null {
  switch (kind) {
    case 'replica':
      return { type: 'replica-status', body: { replica: target, status: state, was, ...facts } };
    case 'edge':
      return state === 'active'
        ? { type: 'synced', body: { from: origin, to: target, was, ...facts } }
        : null;
    case 'lag':
      return was === null && state === 'over'
        ? null
        : { type: 'lag-exceeded', body: { from: origin, to: target, happened: state, ...facts } };
  }
}
