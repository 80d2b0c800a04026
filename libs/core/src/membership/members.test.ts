import { describe, expect, test } from '@jest/globals';
import { isRemoved, joinMembers, numberOf, resolveNodes, type MemberRow } from './members.ts';

const row = (number: number, name: string, extra: Partial<MemberRow> = {}): MemberRow => ({
  number,
  name,
  zone: 'z',
  spare: false,
  retired: false,
  url: null,
  weight: 1,
  change: null,
  ...extra,
});
const address = (name: string) => ({ name, url: `postgres://settings/${name}`, zone: 'z', weight: 1 });

describe('what several nodes say', () => {
  test('a number that is retired anywhere is retired, a declaration of loss stands', () => {
    const joined = joinMembers([
      [row(1, 'a'), row(2, 'b', { change: 'leaving' })],
      [row(1, 'a', { retired: true }), row(2, 'b', { change: 'lost' }), row(3, 'c', { url: 'x' })],
    ]);
    expect(joined).toEqual([
      row(1, 'a', { retired: true }),
      row(2, 'b', { change: 'lost' }),
      row(3, 'c', { url: 'x' }),
    ]);
  });

  test('a node that goes on under its spare number is no removed one', () => {
    const members = joinMembers([
      [row(1, 'a', { retired: true }), row(11, 'a', { spare: true })],
      [row(1, 'a', { retired: true }), row(11, 'a'), row(12, 'a', { spare: true })],
    ]);
    expect(isRemoved('a', members)).toBe(false);
    expect(numberOf('a', members)).toEqual({ number: 11, spare: 12 });
  });

  test('a name that nobody knows is not removed', () => {
    expect(isRemoved('new', [row(1, 'a')])).toBe(false);
  });
});

describe('the nodes of a process', () => {
  const members = [
    row(1, 'a'),
    row(2, 'gone', { retired: true }),
    row(3, 'added', { url: 'postgres://members/added', weight: 2 }),
    row(4, 'elsewhere'),
  ];

  test('are those of its list that were not removed, and those that were added', () => {
    expect(resolveNodes([address('a'), address('gone'), address('fresh')], members)).toEqual({
      nodes: [
        address('a'),
        address('fresh'),
        { name: 'added', url: 'postgres://members/added', zone: 'z', weight: 2 },
      ],
      removed: [address('gone')],
    });
  });

  test('its own address of a node that was added goes before the one that was kept', () => {
    expect(resolveNodes([address('added')], members).nodes).toEqual([address('added')]);
  });

  test('a name that was removed may be added again', () => {
    expect(resolveNodes([address('a'), address('gone')], members, 'gone').nodes).toContainEqual(
      address('gone'),
    );
  });
});
