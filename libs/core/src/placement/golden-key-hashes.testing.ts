/** Canonical texts of keys and their hashes, made with sha256sum. The functions in TypeScript and in SQL are both held to this list. */
export const goldenKeyHashes: readonly (readonly [text: string, hash: number])[] = [
  ['', 3820012610],
  ['a', 3398926610],
  ['key-1', 3190387796],
  ['42', 1934056628],
  ['-9223372036854775808', 2235065463],
  ['true', 3049169947],
  ['2026-01-31', 920432030],
  ['550e8400-e29b-41d4-a716-446655440000', 2745819629],
  ['Grüße, 世界 🌍', 1456379321],
  ['["a","b"]', 74706733],
];
