import { describe, expect, test } from '@jest/globals';
import { assignNumbers, joining, type KnownNode } from './numbers.ts';

const founded = (name: string, number: number, extra: Partial<KnownNode> = {}): KnownNode => ({
  name,
  identity: { cluster: 'c', name, number, spare: number + 10, zone: 'z', log: 'wal', joining: false },
  members: [
    { number: 1, name: 'a', retired: false },
    { number: 11, name: 'a', retired: false },
    { number: 2, name: 'b', retired: false },
    { number: 12, name: 'b', retired: false },
    { number: 3, name: 'gone', retired: true },
    { number: 13, name: 'gone', retired: true },
  ],
  collections: 1,
  ...extra,
});
const fresh = (name: string): KnownNode => ({ name, identity: null, members: [], collections: 0 });
const numbersOf = (nodes: readonly KnownNode[]) => assignNumbers('c', 'wal', nodes);

describe('numbers', () => {
  test('are given in the order of the list, spares after them', () => {
    expect(numbersOf([fresh('a'), fresh('b')])).toEqual([
      { name: 'a', number: 1, spare: 3 },
      { name: 'b', number: 2, spare: 4 },
    ]);
  });

  test('are kept, and those of a node that joins were never anybody else’s', () => {
    expect(numbersOf([founded('a', 1), founded('b', 2), fresh('new')])).toEqual([
      { name: 'a', number: 1, spare: 11 },
      { name: 'b', number: 2, spare: 12 },
      { name: 'new', number: 14, spare: 15 },
    ]);
  });

  test('a known node whose database is new is refused: it was lost', () => {
    expect(() => numbersOf([founded('a', 1), fresh('b')])).toThrow(/its database is new/);
  });

  test('a removed node may come back under its name with another number', () => {
    expect(numbersOf([founded('a', 1), founded('b', 2), fresh('gone')])[2]).toEqual({
      name: 'gone',
      number: 14,
      spare: 15,
    });
  });

  test('a founding that was killed goes on: nobody has a collection yet', () => {
    const begun = founded('a', 1, { collections: 0 });
    expect(numbersOf([begun, fresh('b')])[1]).toEqual({ name: 'b', number: 14, spare: 15 });
  });

  test('two nodes with one number are refused', () => {
    expect(() => numbersOf([founded('a', 1), founded('b', 1)])).toThrow(/two nodes have the number 1/);
  });
});

describe('who joins', () => {
  test('nobody while there are no collections', () => {
    expect(joining([founded('a', 1, { collections: 0 }), fresh('new')])).toEqual([]);
  });

  test('a new node among those that have collections', () => {
    expect(joining([founded('a', 1), fresh('new')])).toEqual(['new']);
  });

  test('a node whose filling has begun, until it is done', () => {
    const identity = { ...founded('n', 14).identity!, joining: true };
    expect(joining([founded('a', 1), founded('n', 14, { identity })])).toEqual(['n']);
    expect(joining([founded('a', 1), founded('n', 14)])).toEqual([]);
  });
});
