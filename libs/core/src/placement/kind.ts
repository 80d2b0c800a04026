/** The kinds of placement by the names that settings use. Pure. */
import { JumpHash } from './jump-hash.ts';
import type { Placement, PlacementNode } from './placement-node.ts';
import { Rendezvous } from './rendezvous.ts';
import { HashRing } from './ring.ts';

export const placementKinds = ['ketama', 'jump', 'rendezvous'] as const;
export type PlacementKind = (typeof placementKinds)[number];

export interface PlacementOptions {
  readonly kind: PlacementKind;
  /** Points of a node of weight 1 on the ring. */
  readonly virtualNodes: number;
}

/** `nodes` in the order in which they joined. */
export function makePlacement(
  nodes: readonly PlacementNode[],
  { kind, virtualNodes }: PlacementOptions,
): Placement {
  switch (kind) {
    case 'ketama':
      return new HashRing(nodes, { virtualNodes });
    case 'jump':
      return new JumpHash(nodes);
    case 'rendezvous':
      return new Rendezvous(nodes);
    default:
      return kind satisfies never;
  }
}
