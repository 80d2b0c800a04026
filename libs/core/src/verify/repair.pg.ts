/**
 * Mends keys in which nodes differ. Versions are merged as whole states: into one node, then from there into the others, so all end with the same. A row without a version
 * is stamped first, with the lowest time that there is, so that it beats nothing and is kept as a losing row where it is not alone. What was changed behind the triggers' back
 * under a version that all agree on is decided by nobody but the operator: the rows of the node that he prefers get a new version.
 */
import { UnversionedRows } from '../apply/outcomes.ts';
import { stampRows } from '../apply/stamp.pg.ts';
import { keyText, type KeyTexts } from '../changelog/change.ts';
import type { Logger } from '../observability/logger.process.ts';
import type { Clock } from '../versioning/clock.ts';
import {
  absentView,
  differenceOf,
  hasAll,
  isBehindTriggers,
  type DifferenceKind,
  type KeyView,
  type KeyViews,
} from './compare.ts';
import { copyKeys } from './copy-states.pg.ts';
import { preferRows } from './prefer-row.pg.ts';
import type { Outcome } from './report.ts';
import type { Repair } from './request.ts';
import type { VerifyNode } from './verify-node.pg.ts';

export interface FoundDifference {
  readonly key: KeyTexts;
  readonly kind: DifferenceKind;
  readonly views: KeyViews;
}

export interface Mended {
  readonly outcome: Outcome;
  readonly reason?: string;
}

export interface RepairOptions {
  readonly cluster: string;
  readonly collection: string;
  readonly repair: Repair;
  /** Those that hold the shard of the keys. */
  readonly holders: readonly VerifyNode[];
  readonly horizon: Clock;
  /** All holders have this very purge horizon, so none of them was set back: what one lacks it has lost. */
  readonly even: boolean;
  readonly logger: Logger;
  readonly signal: AbortSignal;
}

export async function lookAt(
  holders: readonly VerifyNode[],
  keys: readonly KeyTexts[],
): Promise<Map<string, KeyViews>> {
  const found = await Promise.all(holders.map((node) => node.views(keys)));
  return new Map(
    keys.map((key) => [
      keyText(key),
      new Map(
        holders.map((node, at): [string, KeyView] => [node.name, found[at]!.get(keyText(key)) ?? absentView]),
      ),
    ]),
  );
}

/** What became of each, in their order. */
export async function repairKeys(
  options: RepairOptions,
  differences: readonly FoundDifference[],
): Promise<Mended[]> {
  if (options.repair.kind === 'none' || differences.length === 0)
    return differences.map(() => ({ outcome: 'found' }));
  const refused = new Map<string, string>();
  await stamp(options, differences);
  const mergeable = differences.filter((one) => !isBehindTriggers(one.kind));
  await mergeAll(options, mergeable, refused);
  const keys = differences.map((one) => one.key);
  let views = await lookAt(options.holders, keys);
  if (await prefer(options, keys, views, refused)) views = await lookAt(options.holders, keys);
  return differences.map((one) => outcomeOf(one, views.get(keyText(one.key))!, refused, options));
}

async function stamp(
  { holders, collection, logger }: RepairOptions,
  differences: readonly FoundDifference[],
): Promise<void> {
  for (const { name, node } of holders) {
    const keys = differences
      .filter(({ views }) => views.get(name)!.present && views.get(name)!.version === null)
      .map(({ key }) => key);
    if (keys.length > 0) await stampRows(node.address, new UnversionedRows(collection, keys), logger);
  }
}

async function mergeAll(
  options: RepairOptions,
  found: readonly FoundDifference[],
  refused: Map<string, string>,
): Promise<void> {
  const { holders, repair, even } = options;
  const hub = holders.find((node) => repair.kind === 'prefer' && node.name === repair.node) ?? holders[0]!;
  const others = holders.filter((node) => node !== hub);
  const pairs = [
    ...others.map((other) => ({ source: other, target: hub })),
    ...others.map((other) => ({ source: hub, target: other })),
  ];
  for (const pair of pairs)
    for (const [lost, some] of Map.groupBy(
      found,
      ({ views }) => even && views.get(pair.target.name)!.version === null,
    ))
      await copy(
        options,
        { ...pair, lost },
        some.map((one) => one.key),
        refused,
      );
}

async function copy(
  { cluster, collection, logger, signal }: RepairOptions,
  {
    source,
    target,
    lost,
  }: { readonly source: VerifyNode; readonly target: VerifyNode; readonly lost: boolean },
  keys: readonly KeyTexts[],
  refused: Map<string, string>,
): Promise<void> {
  const options = {
    cluster,
    collection,
    source: source.node,
    target: target.node,
    logger,
    signal,
    copied: lost,
  };
  for await (const step of copyKeys(options, keys))
    for (const one of step.refused)
      refused.set(
        keyText(one.key),
        `${target.name} refused it${one.sqlstate === null ? '' : ` with SQLSTATE ${one.sqlstate}`}`,
      );
}

/** Tells whether anything was written. */
async function prefer(
  options: RepairOptions,
  keys: readonly KeyTexts[],
  views: ReadonlyMap<string, KeyViews>,
  refused: Map<string, string>,
): Promise<boolean> {
  const { repair, holders } = options;
  if (repair.kind !== 'prefer') return false;
  const preferred = holders.find((node) => node.name === repair.node);
  if (preferred === undefined) return false;
  const wanted = keys.flatMap((key) => {
    const found = views.get(keyText(key))!;
    const kind = differenceOf(found);
    const version = found.get(preferred.name)!.version;
    return kind !== null && isBehindTriggers(kind) && version !== null ? [{ key, dot: version.dot }] : [];
  });
  if (wanted.length === 0) return false;
  const written = new Set(await preferRows(preferred.client, preferred.table, wanted));
  const copied = wanted.map((one) => one.key).filter((key) => written.has(keyText(key)));
  for (const other of holders)
    if (other !== preferred)
      await copy(options, { source: preferred, target: other, lost: false }, copied, refused);
  return true;
}

function outcomeOf(
  found: FoundDifference,
  now: KeyViews,
  refused: ReadonlyMap<string, string>,
  { horizon, repair }: RepairOptions,
): Mended {
  const kind = differenceOf(now);
  if (kind === null) return { outcome: 'mended' };
  const reason = refused.get(keyText(found.key));
  if (reason !== undefined) return { outcome: 'refused', reason };
  if (isBehindTriggers(kind)) {
    if (repair.kind === 'merge')
      return { outcome: 'left', reason: 'no version tells which row is right: repair with prefer:<node>' };
    return {
      outcome: 'left',
      reason: 'the key was written meanwhile, or the preferred node does not hold it',
    };
  }
  // Written again meanwhile: what was missing has arrived all the same.
  const changed = [...found.views].some(([node, view]) => view.versionHash !== now.get(node)?.versionHash);
  return changed && hasAll(found.views, now, horizon)
    ? { outcome: 'mended' }
    : { outcome: 'left', reason: 'the nodes still differ' };
}
