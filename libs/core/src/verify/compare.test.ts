import { expect, test } from '@jest/globals';
import {
  absentView,
  differenceOf,
  differingBuckets,
  hasAll,
  judge,
  type BucketDigest,
  type KeyView,
  type KeyViews,
} from './compare.ts';

const view = (changes: Partial<KeyView> = {}): KeyView => ({
  version: { dot: '1.5', hlc: '9', deleted: false },
  seen: { 1: 5 },
  purged: false,
  versionHash: 'v',
  losers: '',
  present: true,
  rowHash: 'r',
  ...changes,
});
const views = (...list: KeyView[]): KeyViews =>
  new Map(list.map((one, at): [string, KeyView] => [`n${at + 1}`, one]));
const dead = { version: { dot: '1.5', hlc: '9', deleted: true } };

test.each([
  ['null', null, [view(), view()]],
  ['missing', 'missing', [view(), absentView]],
  ['version', 'version', [view(), view({ versionHash: 'w' })]],
  ['conflicts', 'conflicts', [view(), view({ losers: '2.7' })]],
  ['a row without a version', 'unversioned-row', [view(), { ...absentView, present: true }]],
  ['a row that went', 'missing-row', [view(), view({ present: false, rowHash: null })]],
  ['a row that went everywhere', 'missing-row', [view({ present: false }), view({ present: false })]],
  ['a row that came', 'unexpected-row', [view({ ...dead, present: false }), view(dead)]],
  ['other rows', 'row', [view(), view({ rowHash: 's' })]],
  ['versions before rows', 'version', [view(), view({ versionHash: 'w', rowHash: 's' })]],
  [
    'a purged tombstone and nothing',
    null,
    [view({ ...dead, purged: true, versionHash: null, present: false, rowHash: null }), absentView],
  ],
])('%s', (_name, expected, list) => expect(differenceOf(views(...list))).toBe(expected));

test('what somebody lacked then and lacks now is a difference', () => {
  const then = views(view({ seen: { 1: 5, 2: 3 } }), view());
  const now = views(
    view({ seen: { 1: 6, 2: 3 }, versionHash: 'x' }),
    view({ seen: { 1: 6 }, versionHash: 'y' }),
  );
  expect(judge(then, now, {})).toEqual({ kind: 'differs', difference: 'version' });
});

test('what has arrived while newer writes are on their way is none yet', () => {
  const then = views(view({ seen: { 1: 6 }, versionHash: 'x' }), view());
  const now = views(view({ seen: { 1: 7 }, versionHash: 'y' }), view({ seen: { 1: 6 }, versionHash: 'x' }));
  expect(judge(then, now, {})).toEqual({ kind: 'moving' });
  expect(judge(then, views(view(), view()), {})).toEqual({ kind: 'equal' });
});

test('what has not moved and differs is a difference, though all have seen the same', () => {
  const list = views(view(), view({ rowHash: 's' }));
  expect(judge(list, list, {})).toEqual({ kind: 'differs', difference: 'row' });
});

test('what was seen under the purge horizon is not asked of those that have purged it', () => {
  const then = views(view({ seen: { 1: 5, 2: 9 } }), view());
  const now = views(view({ seen: { 1: 5, 2: 9 } }), view({ seen: { 2: 9 } }));
  expect(hasAll(then, now, {})).toBe(false);
  expect(hasAll(then, now, { 1: 5 })).toBe(true);
  expect(hasAll(then, now, { 1: 4 })).toBe(false);
});

test('buckets are compared among those that hold the shard, and a node without any counts', () => {
  const one = (shard: number, bucket: number, digest: string): BucketDigest => ({
    shard,
    bucket,
    keys: 1,
    digest,
  });
  const digests = new Map([
    ['n1', [one(0, 1, 'a'), one(0, 2, 'b'), one(1, 1, 'c')]],
    ['n2', [one(0, 1, 'a'), one(1, 1, 'd')]],
    ['n3', [one(0, 1, 'x')]],
  ]);
  const holds = (node: string, shard: number) => node !== 'n3' || shard === 2;
  expect([...differingBuckets(digests, holds)]).toEqual([
    [0, [2]],
    [1, [1]],
  ]);
});
