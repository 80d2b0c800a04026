/**
 * Comparing what nodes have of a key, and telling a difference from what is merely under way. Pure.
 *
 * The rule: nodes were looked at once (`then`), everything that was committed on any of them by that time was applied on the others, and they were looked at again
 * (`now`). A difference is real when somebody still lacks what another one had seen `then`, or when nothing has moved and they still differ. If they differ otherwise, the
 * key was written again meanwhile, and nothing can be said yet.
 */
import { includes, type Clock } from '../versioning/clock.ts';

export interface KeyView {
  /** Null where the node has no version of the key. */
  readonly version: { readonly dot: string; readonly hlc: string; readonly deleted: boolean } | null;
  readonly seen: Clock;
  /** A tombstone under the purge horizon: as good as absent. */
  readonly purged: boolean;
  /** Null where there is no version, or a purged one. */
  readonly versionHash: string | null;
  readonly losers: string;
  /** Is there a row? */
  readonly present: boolean;
  /** Only of deep looks. */
  readonly rowHash: string | null;
}

export const absentView: KeyView = {
  version: null,
  seen: {},
  purged: false,
  versionHash: null,
  losers: '',
  present: false,
  rowHash: null,
};

/** Node's name -> what it has. */
export type KeyViews = ReadonlyMap<string, KeyView>;

/**
 * - missing: some nodes have no version of the key at all;
 * - version: they have different ones, or have seen different things;
 * - conflicts: other conflict records are open;
 * and what happened behind the triggers' back:
 * - unversioned-row: a row without a version;
 * - missing-row, unexpected-row: presence of the row is not what its version says;
 * - row: the same version with different rows.
 */
export const differenceKinds = [
  'unversioned-row',
  'missing',
  'version',
  'conflicts',
  'missing-row',
  'unexpected-row',
  'row',
] as const;
export type DifferenceKind = (typeof differenceKinds)[number];

/** Null when the nodes agree. What merging mends comes first: only then can be told what is left. */
export function differenceOf(views: KeyViews): DifferenceKind | null {
  const all = [...views.values()];
  const first = all[0];
  if (first === undefined) return null;
  if (all.some((view) => view.present && view.version === null)) return 'unversioned-row';
  if (all.some((view) => view.versionHash !== first.versionHash))
    return all.some((view) => view.versionHash === null) ? 'missing' : 'version';
  if (all.some((view) => view.losers !== first.losers)) return 'conflicts';
  if (all.some((view) => view.version?.deleted === false && !view.present)) return 'missing-row';
  if (all.some((view) => view.version?.deleted === true && view.present)) return 'unexpected-row';
  return all.some((view) => view.rowHash !== first.rowHash) ? 'row' : null;
}

/** Done behind the triggers' back, with nothing that merging could decide by. */
export const isBehindTriggers = (kind: DifferenceKind): boolean =>
  kind === 'missing-row' || kind === 'unexpected-row' || kind === 'row';

const sameView = (a: KeyView, b: KeyView): boolean =>
  a.versionHash === b.versionHash &&
  a.losers === b.losers &&
  a.present === b.present &&
  a.rowHash === b.rowHash &&
  includes(a.seen, b.seen) &&
  includes(b.seen, a.seen);

/** Has every node what any of them had seen `then`? `horizon` is left out of it. */
export function hasAll(then: KeyViews, now: KeyViews, horizon: Clock): boolean {
  for (const had of then.values()) {
    if (had.purged) continue;
    const wanted = beyond(had.seen, horizon);
    for (const has of now.values()) if (!includes(has.seen, wanted)) return false;
  }
  return true;
}

function beyond(clock: Clock, horizon: Clock): Clock {
  const entries = Object.entries(clock).filter(([node, counter]) => counter > (horizon[node] ?? 0));
  return Object.fromEntries(entries);
}

export type Verdict =
  | { readonly kind: 'equal' }
  | { readonly kind: 'moving' }
  | { readonly kind: 'differs'; readonly difference: DifferenceKind };

/** All that was committed before `then` was looked at has been applied before `now`. */
export function judge(then: KeyViews, now: KeyViews, horizon: Clock): Verdict {
  const difference = differenceOf(now);
  if (difference === null) return { kind: 'equal' };
  const unmoved = [...then].every(([node, view]) => sameView(view, now.get(node) ?? absentView));
  return unmoved || !hasAll(then, now, horizon) ? { kind: 'differs', difference } : { kind: 'moving' };
}

export interface BucketDigest {
  readonly shard: number;
  readonly bucket: number;
  readonly keys: number;
  readonly digest: string;
}

/** Shard -> buckets in which its holders differ. */
export function differingBuckets(
  digests: ReadonlyMap<string, readonly BucketDigest[]>,
  holds: (node: string, shard: number) => boolean,
): Map<number, number[]> {
  const found = new Map<string, { shard: number; bucket: number; texts: Map<string, string> }>();
  for (const [node, list] of digests) {
    for (const { shard, bucket, keys, digest } of list) {
      if (!holds(node, shard)) continue;
      const name = `${shard} ${bucket}`;
      let entry = found.get(name);
      if (entry === undefined) found.set(name, (entry = { shard, bucket, texts: new Map() }));
      entry.texts.set(node, `${keys} ${digest}`);
    }
  }
  const differing = new Map<number, number[]>();
  for (const { shard, bucket, texts } of found.values()) {
    const holders = [...digests.keys()].filter((node) => holds(node, shard));
    if (new Set(holders.map((node) => texts.get(node) ?? '')).size < 2) continue;
    const list = differing.get(shard);
    if (list === undefined) differing.set(shard, [bucket]);
    else list.push(bucket);
  }
  return differing;
}
