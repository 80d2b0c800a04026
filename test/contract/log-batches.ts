/** Batches as capture would make them, for harnesses that append to a log themselves. */
import type { LogBatch, RowImage, WriteChange } from '#core/changelog/change.ts';
import { shardOf } from '#core/placement/partitioning.ts';
import { hlcFromMs } from '#core/versioning/hlc.ts';
import type { Epoch, NodeNumber } from '#core/versioning/version.ts';
import type { WriteOp } from './write-history.ts';

export const collection = 'docs';
const table = {
  collection,
  columns: [
    { name: 'id', type: 'text', isKey: true },
    { name: 'body', type: 'bytea', isKey: false },
  ],
};
const shards = 64;
const firstCommitMs = Date.UTC(2026, 0, 1);

/** An origin of its own, whose writes follow one another. */
export class BatchSource {
  readonly origin: NodeNumber;
  #counter = 0;

  constructor(origin = 1) {
    this.origin = origin as NodeNumber;
  }

  batch(ops: readonly WriteOp[]): LogBatch {
    const changes = ops.map((op) => this.#change(op));
    const commit = this.#counter;
    return {
      origin: this.origin,
      stream: 0,
      changes,
      position: BigInt(commit),
      commitTimeMs: firstCommitMs + commit,
      commitLsn: BigInt(commit),
      bytes: ops.reduce((sum, { size = 0 }) => sum + size, 0),
    };
  }

  heartbeat(): LogBatch {
    return { ...this.batch([]), changes: [{ kind: 'heartbeat' }] };
  }

  #change({ key, kind, size = 10 }: WriteOp): WriteChange {
    this.#counter += 1;
    const counter = this.#counter;
    const deleted = kind === 'delete';
    const row: RowImage | null = deleted
      ? null
      : { table, values: [Buffer.from(key), Buffer.alloc(size, counter % 256)] };
    const version = {
      rank: 0,
      epoch: 0n as Epoch,
      hlc: hlcFromMs(firstCommitMs + counter),
      dot: { origin: this.origin, counter },
      clock: { [this.origin]: counter },
      deleted,
      request: null,
      crdt: null,
    };
    return {
      kind: 'write',
      collection,
      key: [key],
      shard: shardOf(key, { shards }),
      version,
      row,
      seen: null,
      losers: [],
      requests: [],
    };
  }
}
