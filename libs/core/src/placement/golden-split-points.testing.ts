/** Split points with keys and the shard of each. The functions in TypeScript and in SQL are both held to this list. */
export const goldenSplitPoints = ['Z', 'b', 'ba', 'é', '\uFFFD', '😀'] as const;

export const goldenRangeShards: readonly (readonly [key: string, shard: number])[] = [
  ['0', 0],
  ['Y', 0],
  ['Z', 1],
  ['Zebra', 1],
  ['a', 1],
  ['b', 2],
  ['b9', 2],
  ['ba', 3],
  ['c', 3],
  ['z', 3],
  ['É', 3],
  ['é', 4],
  ['世界', 4],
  ['\uFFFC', 4],
  ['\uFFFD', 5],
  ['𝄞', 5],
  ['😀', 6],
  ['🙂', 6],
];
