/** The job that moves a shard, in the words of whoever asks for it. Pure. */
export const moveJob = 'move-shard';

export interface MoveArguments {
  readonly collection: string;
  readonly shard: number;
  readonly from: string;
  readonly to: string;
}
