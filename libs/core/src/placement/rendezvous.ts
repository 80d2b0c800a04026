/**
 * Rendezvous hashing (highest random weight): each node draws a score for each key, and the highest scores have it. Pure and deterministic: the same
 * nodes in any order give the same answers.
 *
 * Against the ring: shares are as even as chance allows, without points to keep, and follow weights exactly; a question costs one hash for each node.
 * A node that joins takes shards only for itself, one that leaves gives up only its own, and a weight that changes moves only shards of its node.
 *
 * With weights the score is -weight / ln(u), where u is the hash as a number between 0 and 1: then a node wins with a probability in proportion to
 * its weight.
 */
import { keyHash } from './key-hash.ts';
import { byName, checkNodes, type Placement, type PlacementNode } from './placement-node.ts';

const hashes = 2 ** 32;

export class Rendezvous implements Placement {
  /** Names of the nodes, sorted. */
  readonly nodes: readonly string[];
  readonly #nodes: readonly PlacementNode[];

  constructor(nodes: readonly PlacementNode[]) {
    checkNodes(nodes, 'list');
    this.#nodes = nodes.toSorted(byName);
    this.nodes = this.#nodes.map(({ name }) => name);
  }

  preference(shardKey: string, count: number = this.nodes.length): string[] {
    const scored = this.#nodes.map(({ name, weight }) => ({ name, score: score(name, shardKey, weight) }));
    // The sort is stable: of equal scores the name decides.
    return scored
      .sort((a, b) => b.score - a.score)
      .slice(0, count)
      .map(({ name }) => name);
  }

  owner(shardKey: string): string | null {
    return this.preference(shardKey, 1)[0] ?? null;
  }
}

/** The name's length keeps node and key apart. The half keeps the logarithm from 0 and from 1. */
const score = (name: string, shardKey: string, weight: number): number =>
  -weight / Math.log((keyHash(`${name.length}:${name}${shardKey}`) + 0.5) / hashes);
