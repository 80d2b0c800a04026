import { describe, expect, test } from '@jest/globals';
import { judge, type LocalIdentity, type Memory } from './identity.ts';

const local = (other: Partial<LocalIdentity> = {}): LocalIdentity => ({
  number: 1,
  confirmed: false,
  timeline: '00000001',
  timelineNow: '00000001',
  sinceLsn: 1000n,
  tokens: new Set(['t1', 't2']),
  ...other,
});
const memory = (other: Partial<Memory> = {}): Memory => ({
  peer: 'n2',
  remembered: told('t2', 60_000),
  readLsn: 1000n,
  retired: false,
  ...other,
});
const told = (token: string, agoMs: number, lsn = 900n, number = 1) => ({ number, token, lsn, agoMs });
const kindOf = (of: LocalIdentity, memories: readonly Memory[]): string =>
  judge(of, memories, { peers: 2, aliveMs: 5000 }).kind;

describe('a database that was started', () => {
  test('is the same when it has every remembered token and all of the WAL that was read', () => {
    expect(kindOf(local(), [memory(), memory({ peer: 'n3', remembered: null, readLsn: null })])).toBe('same');
  });

  test('was restored when it lacks a token that any of the others remembers', () => {
    expect(kindOf(local(), [memory(), memory({ remembered: told('t9', 60_000) })])).toBe('changed');
  });

  test('was restored when others have read more than it had at its first write, though it has raced beyond them since', () => {
    expect(kindOf(local(), [memory({ readLsn: 1001n })])).toBe('changed');
    expect(kindOf(local(), [memory({ remembered: told('t2', 60_000, 1001n) })])).toBe('changed');
  });

  test('is not judged by what others remember of the number that it had before', () => {
    expect(kindOf(local(), [memory({ remembered: told('t9', 60_000, 5000n, 4) })])).toBe('same');
  });

  test('was promoted when its timeline is another one', () => {
    expect(kindOf(local({ timelineNow: '00000002' }), [memory()])).toBe('changed');
  });

  test('is a copy of what others have replaced when its number is retired there', () => {
    expect(kindOf(local(), [memory({ retired: true })])).toBe('changed');
  });

  test('waits while nobody answers, unless there is nobody', () => {
    expect(kindOf(local(), [])).toBe('unknown');
    expect(judge(local(), [], { peers: 0, aliveMs: 5000 }).kind).toBe('same');
  });

  test('does not take the place of one that is alive under its name', () => {
    expect(kindOf(local(), [memory({ remembered: told('t9', 100) })])).toBe('other-alive');
  });
});

describe('a database that is confirmed', () => {
  test('stays so while others read on', () => {
    expect(kindOf(local({ confirmed: true }), [memory({ readLsn: 5000n })])).toBe('same');
  });

  test('notices a clone that has told others since, whether it is alive or gone', () => {
    expect(kindOf(local({ confirmed: true }), [memory({ remembered: told('t9', 100) })])).toBe('other-alive');
    expect(kindOf(local({ confirmed: true }), [memory({ remembered: told('t9', 60_000) })])).toBe('changed');
  });
});
