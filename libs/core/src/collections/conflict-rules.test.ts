import { describe, expect, test } from '@jest/globals';
import { conflictRules, conflictRulesSchema } from './conflict-rules.ts';

/** The message of what is wrong, or null. */
function problem(crdt: unknown): string | null {
  const parsed = conflictRulesSchema.safeParse({ strategy: 'crdt', crdt });
  if (!parsed.success) return parsed.error.issues.map(({ message }) => message).join();
  try {
    conflictRules(parsed.data, 'lww');
    return null;
  } catch (error) {
    return (error as Error).message;
  }
}

const many = (count: number) =>
  Object.fromEntries(Array.from({ length: count }, (_, at) => [`f${at}`, 'or-set']));

describe('declared CRDT fields', () => {
  test('are up to 64, of four types', () => {
    expect(
      problem({ likes: 'g-counter', stock: 'pn-counter', title: 'lww-register', 'the-tags': 'or-set' }),
    ).toBe(null);
    expect(problem(many(64))).toBe(null);
    expect(problem(many(65))).toMatch(/at most 64 fields/);
    expect(problem({ likes: 'counter' })).toMatch(/g-counter/);
    expect(problem({})).toMatch(/at least one field/);
    for (const wrong of [null, [], 'x', { a: null }]) expect(problem(wrong)).not.toBe(null);
  });

  test.each(['', 'a b', '1', '-a', '_a', 'ä', 'a'.repeat(64)])('are not named %j', (name) => {
    expect(problem({ [name]: 'or-set' })).toMatch(/must be a letter/);
  });

  test.each(['constructor', 'toString', 'valueOf', 'hasOwnProperty', '__proto__'])(
    'are not named %s, which each object has',
    (name) => {
      expect(problem(JSON.parse(`{"${name}": "or-set"}`))).not.toBe(null);
    },
  );
});
