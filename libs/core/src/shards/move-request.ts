/** Changes of who holds a shard, in the words of whoever asks for them. Pure. */
export const moveJob = 'move-shard';

export interface ShardChange {
  readonly collection: string;
  readonly shard: number;
  /** Null where a shard gets a further replica. */
  readonly from: string | null;
  /** Null where it has one less from then on. */
  readonly to: string | null;
}

export interface MoveArguments extends ShardChange {
  readonly from: string;
  readonly to: string;
}

/** A node that came takes the shards that placement gives it. */
export const takeShardsJob = 'take-shards';

export interface TakeArguments {
  readonly node: string;
}
