/**
 * What a simulated history is made of. Steps are plain data with raw numbers that are reduced to what exists when they run, and a step that is not
 * possible then does nothing: so any part of a history is a history, which is what shrinking a failure needs.
 */
import type { Operations } from '#core/versioning/crdt/operation.ts';
import { Prng } from './prng.ts';

export const someOperations: readonly Operations[] = [
  { count: { increment: 1 } },
  { count: { decrement: 2 } },
  { count: { increment: 5 }, tags: { add: 'x' } },
  { tags: { add: 'x' } },
  { tags: { remove: 'x' } },
  { tags: { add: 'y' } },
];

export interface Write {
  readonly key: number;
  readonly deleted: boolean;
  /** Writes of one key with one number are one gateway request; null = plain SQL. */
  readonly request: number | null;
}

export type Step =
  /** One transaction; of a key that it writes twice only the last version is published. */
  | { readonly kind: 'write'; readonly node: number; readonly writes: readonly Write[] }
  /** An operation on the CRDT fields of a row. */
  | { readonly kind: 'operate'; readonly node: number; readonly key: number; readonly pick: number }
  /** A call that writes the row of a conflict record again, or closes the record without a write. */
  | { readonly kind: 'restore' | 'resolve'; readonly node: number; readonly pick: number }
  /** Time goes on everywhere; `skewMs` sets the clock of one node anew. */
  | { readonly kind: 'time'; readonly ms: number; readonly node: number; readonly skewMs: number | null }
  /** `to`'s reader of `from` takes further transactions from the log; bits of `reread` choose the changes that it re-reads as whole states. */
  | {
      readonly kind: 'capture';
      readonly from: number;
      readonly to: number;
      readonly count: number;
      readonly reread: number;
    }
  /** What was taken is applied, merged into one batch. */
  | { readonly kind: 'deliver'; readonly from: number; readonly to: number; readonly count: number }
  /**
   * The reader ends in the middle of a transaction that came in parts, `part` changes of it applied, in either order. It goes on `back` transactions before what
   * was applied whole: what was under way is lost and sent again, what was applied comes again.
   */
  | {
      readonly kind: 'crash';
      readonly from: number;
      readonly to: number;
      readonly back: number;
      readonly part: number;
      readonly reversed: boolean;
    }
  /** A node is cut off from all others for long, or the one that is comes back. It goes on being written to. */
  | { readonly kind: 'away'; readonly node: number }
  /**
   * Tombstones are purged as far as that may be now: `rounds` are begun, before each of them everything arrives that can if `synced`. If a clock to raise horizons
   * to is the result, some nodes raise theirs, and once all have, some delete tombstones.
   */
  | {
      readonly kind: 'purge';
      readonly rounds: number;
      readonly synced: boolean;
      /** A node deletes the key before. */
      readonly node: number;
      readonly key: number | null;
      readonly raise: number;
      readonly deletes: number;
    }
  /** Repair: the whole state of a key goes to another node, with what is remembered of its requests. */
  | { readonly kind: 'repair'; readonly from: number; readonly to: number; readonly key: number };

export interface History {
  readonly seed: number;
  readonly nodes: number;
  readonly keys: number;
  /** Each key is written by one node only. */
  readonly oneWriter: boolean;
  readonly steps: readonly Step[];
}

const hourMs = 3_600_000;
const skewsMs = [0, hourMs, -24 * hourMs, -5, 3];

export function makeHistory(seed: number): History {
  const prng = new Prng(seed);
  const nodes = prng.between(2, 5);
  const keys = prng.between(1, 3);
  const oneWriter = prng.chance(10);
  const length = prng.between(10, 140);
  // Some histories replicate hardly at all before the end, others after nearly every write.
  const quiet = prng.between(1, 40);
  const requestPercent = prng.chance(30) ? 0 : prng.between(10, 80);
  const operatePercent = prng.chance(50) ? 0 : prng.between(10, 70);
  const purgePercent = prng.chance(65) ? 0 : prng.between(8, 25);
  const steps = Array.from({ length }, () =>
    makeStep(prng, { quiet, requestPercent, operatePercent, purgePercent }),
  );
  return { seed, nodes, keys, oneWriter, steps };
}

function makeStep(
  prng: Prng,
  options: {
    readonly quiet: number;
    readonly requestPercent: number;
    readonly operatePercent: number;
    readonly purgePercent: number;
  },
): Step {
  const node = prng.below(60);
  const other = prng.below(60);
  if (prng.chance(options.purgePercent)) {
    if (prng.chance(8)) return { kind: 'away', node };
    // The log comes again from long ago.
    if (prng.chance(40))
      return { kind: 'crash', from: node, to: other, back: prng.between(5, 60), part: 0, reversed: false };
    return {
      kind: 'purge',
      rounds: prng.chance(60) ? 3 : 1,
      synced: prng.chance(60),
      node,
      key: prng.chance(60) ? other : null,
      raise: prng.chance(75) ? 5 : prng.between(1, 4),
      deletes: prng.chance(75) ? 31 : prng.below(32),
    };
  }
  const turn = prng.below(60 + options.quiet);
  if (turn < 26)
    return {
      kind: 'capture',
      from: node,
      to: other,
      count: prng.between(1, 4),
      reread: prng.chance(30) ? prng.below(16) : 0,
    };
  if (turn < 50) return { kind: 'deliver', from: node, to: other, count: prng.between(1, 5) };
  if (turn < 53)
    return {
      kind: 'crash',
      from: node,
      to: other,
      back: prng.below(6),
      part: prng.below(4),
      reversed: prng.chance(50),
    };
  if (turn < 54) return { kind: 'repair', from: node, to: other, key: prng.below(60) };
  if (turn < 57)
    return {
      kind: 'time',
      ms: prng.below(4),
      node,
      skewMs: prng.chance(40) ? skewsMs[prng.below(skewsMs.length)]! : null,
    };
  if (turn < 59) return { kind: prng.chance(60) ? 'restore' : 'resolve', node, pick: prng.below(60) };
  if (prng.chance(options.operatePercent))
    return { kind: 'operate', node, key: prng.below(60), pick: prng.below(60) };
  const writes = Array.from({ length: prng.chance(15) ? prng.between(2, 3) : 1 }, (): Write => ({
    key: prng.below(60),
    deleted: prng.chance(options.purgePercent === 0 ? 25 : 50),
    request: prng.chance(options.requestPercent) ? prng.below(3) : null,
  }));
  return { kind: 'write', node, writes };
}
