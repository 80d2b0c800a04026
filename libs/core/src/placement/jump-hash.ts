/**
 * Jump consistent hashing (Lamping and Veach, 2014, https://arxiv.org/abs/1406.2294): a key jumps forward through numbered buckets, and stays in the
 * last one that it reaches. No memory, and shares as even as chance allows. Pure and deterministic.
 *
 * The order of the nodes counts: it is the order in which they joined. A node that joins at the end takes shards only for itself; when one leaves
 * from the middle, what follows moves up, and many shards move. So it suits a set of nodes that only grows; the ring and rendezvous suit one that
 * changes.
 *
 * A weight is a number of buckets, in tenths: a node of weight 1 has ten. Changing the weight of a node that is not the last moves what follows it.
 */
import { keyHash } from './key-hash.ts';
import { checkNodes, type Placement, type PlacementNode } from './placement-node.ts';

const bucketsOfWeightOne = 10;
/** Then the rest of a preference is in the order of the nodes: a node of little weight may not be hit for very long. */
const attemptsPerNode = 20;

export class JumpHash implements Placement {
  /** In the order in which they were given. */
  readonly nodes: readonly string[];
  /** For each bucket the place of its node in `nodes`. */
  readonly #owners: readonly number[];

  constructor(nodes: readonly PlacementNode[]) {
    checkNodes(nodes, 'list');
    this.nodes = nodes.map(({ name }) => name);
    this.#owners = nodes.flatMap(({ weight }, at) => Array<number>(bucketsOf(weight)).fill(at));
  }

  preference(shardKey: string, count: number = this.nodes.length): string[] {
    const wanted = Math.min(count, this.nodes.length);
    const found = new Set<number>();
    for (let attempt = 0; found.size < wanted && attempt < this.nodes.length * attemptsPerNode; attempt += 1)
      found.add(this.#owners[jump(keyOf(shardKey, attempt), this.#owners.length)]!);
    for (let at = 0; found.size < wanted; at += 1) found.add(at);
    return [...found].map((at) => this.nodes[at]!);
  }

  owner(shardKey: string): string | null {
    return this.preference(shardKey, 1)[0] ?? null;
  }
}

const bucketsOf = (weight: number): number => Math.max(1, Math.round(weight * bucketsOfWeightOne));

/** 64 bits; each attempt is a key of its own. */
const keyOf = (shardKey: string, attempt: number): bigint =>
  (BigInt(keyHash(`${attempt}#${shardKey}`)) << 32n) | BigInt(keyHash(`${shardKey}#${attempt}`));

/** The bucket of a key, of at least one bucket. The constant is the one of the paper, so that others find the same. */
export function jump(key: bigint, buckets: number): number {
  let state = BigInt.asUintN(64, key);
  let bucket = 0;
  for (let next = 0; next < buckets;) {
    bucket = next;
    state = BigInt.asUintN(64, state * 2_862_933_555_777_941_757n + 1n);
    next = Math.floor((bucket + 1) * (2 ** 31 / Number((state >> 33n) + 1n)));
  }
  return bucket;
}
