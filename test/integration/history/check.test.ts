import { expect, test } from '@jest/globals';
import { problemsOf, type Event, type Shown } from './check.ts';

const shown = (text: string, hlc: number, clock: Record<string, number>): Shown => ({
  text,
  hlc: String(hlc),
  clock: Object.fromEntries(Object.entries(clock).map(([node, counter]) => [node, String(counter)])),
});
const first = shown('1.1', 10, { 1: 1 });
const second = shown('1.2', 20, { 1: 2 });
const concurrent = shown('2.1', 15, { 1: 1, 2: 1 });

const write = (version: Shown, began: number, ended: number, more: Partial<Event> = {}): Event =>
  ({ kind: 'write', key: 'k', level: 'quorum', began, ended, outcome: 'ok', version, ...more }) as Event;
const read = (version: Shown | null, began: number, ended: number, more: Partial<Event> = {}): Event =>
  ({ kind: 'read', key: 'k', level: 'quorum', began, ended, version, token: null, ...more }) as Event;

test('what a right system does has no problems', () => {
  expect(
    problemsOf([
      write(first, 0, 1),
      read(first, 2, 3),
      write(second, 4, 6),
      read(first, 5, 7),
      read(second, 8, 9),
    ]),
  ).toEqual([]);
  // A concurrent write that lost need not be shown, and one that won may be.
  expect(problemsOf([write(second, 0, 1), write(concurrent, 0, 1), read(second, 2, 3)])).toEqual([]);
  expect(
    problemsOf([
      write(first, 0, 1),
      write(second, 2, 3, { kind: 'delete' } as Partial<Event>),
      read(null, 4, 5),
    ]),
  ).toEqual([]);
  expect(problemsOf([write(first, 0, 1, { level: 'one' } as Partial<Event>), read(null, 2, 3)])).toEqual([]);
});

test.each<[string, Event[]]>([
  ['an acknowledged write that is not read', [write(first, 0, 1), write(second, 2, 3), read(first, 4, 5)]],
  ['an acknowledged write of which there is nothing', [write(first, 0, 1), read(null, 2, 3)]],
  [
    'a concurrent loser in place of the winner',
    [write(second, 0, 1), write(concurrent, 0, 1), read(concurrent, 2, 3)],
  ],
  [
    'a read that goes back',
    [write(first, 0, 1), write(second, 2, 20), read(second, 3, 4), read(first, 5, 6)],
  ],
  [
    'a delete that came before',
    [write(second, 0, 1, { kind: 'delete' } as Partial<Event>), write(first, 2, 3), read(null, 4, 5)],
  ],
  [
    'a token that is not kept',
    [
      read(first, 4, 5, {
        level: 'one',
        token: write(second, 2, 3, { level: 'one' } as Partial<Event>),
      } as Partial<Event>),
    ],
  ],
])('%s is seen', (_, history) => {
  expect(problemsOf(history)).toHaveLength(1);
});
