import { expect, test } from '@jest/globals';
import { conflictId } from './conflict-id.ts';
import type { NodeNumber } from './version.ts';

const dot = (origin: number, counter: number) => ({ origin: origin as NodeNumber, counter });

test('a record has the same id for ever', () => {
  expect(conflictId('docs', 'key-1', dot(1, 5))).toBe('41206986-19c7-df0a-c5e8-4acc0faf195e');
});

test('collection, key and dot do not run into one another', () => {
  const ids = [
    conflictId('docs', 'a', dot(1, 5)),
    conflictId('docs', 'a', dot(1, 6)),
    conflictId('docs', 'a', dot(2, 5)),
    conflictId('doc', 'sa', dot(1, 5)),
    conflictId('docs', 'a1', dot(1, 5)),
  ];
  expect(new Set(ids).size).toBe(ids.length);
});
