/** What a verification tells: counts of all, and the first differences one by one. Bounded, since it is a job's checkpoint and result. Pure. */
import { differenceKinds, type DifferenceKind, type KeyViews } from './compare.ts';

/** What became of a difference. `found`: nothing was to be done, or nothing may be done without an operator's word. */
export type Outcome = 'found' | 'mended' | 'refused' | 'left';

export interface ReportedView {
  /** The version's dot; null = none. */
  readonly version: string | null;
  readonly deleted: boolean;
  readonly row: boolean;
  /** Dots of open losers. */
  readonly openConflicts: readonly string[];
  /** Tells rows apart; only of deep verifications. */
  readonly rowDigest?: string;
}

export interface Difference {
  readonly collection: string;
  readonly key: string;
  readonly shard: number;
  readonly kind: DifferenceKind;
  readonly nodes: Readonly<Record<string, ReportedView>>;
  readonly outcome: Outcome;
  readonly reason?: string;
}

export interface Report {
  shards: number;
  /** Versions compared, on the node that has most of them. */
  keys: number;
  differences: number;
  readonly byKind: Partial<Record<DifferenceKind, number>>;
  readonly byOutcome: Record<Outcome, number>;
  /** Keys that were written all the time, or whose changes did not arrive in time: nothing can be said of them. */
  inFlight: number;
  /** Nodes that could not be asked. */
  unreachable: string[];
  /** `origin -> target` where changes did not arrive in time. */
  behind: string[];
  readonly listed: Difference[];
  /** There are more differences than are listed. */
  truncated: boolean;
}

const listedMax = 500;
const listedCharsMax = 200_000;

export const emptyReport = (): Report => ({
  shards: 0,
  keys: 0,
  differences: 0,
  byKind: {},
  byOutcome: { found: 0, mended: 0, refused: 0, left: 0 },
  inFlight: 0,
  unreachable: [],
  behind: [],
  listed: [],
  truncated: false,
});

export function addDifference(report: Report, one: Difference): void {
  report.differences += 1;
  report.byKind[one.kind] = (report.byKind[one.kind] ?? 0) + 1;
  report.byOutcome[one.outcome] += 1;
  if (report.truncated) return;
  const chars = report.listed.reduce((sum, listed) => sum + JSON.stringify(listed).length, 0);
  if (report.listed.length < listedMax && chars + JSON.stringify(one).length <= listedCharsMax)
    report.listed.push(one);
  else report.truncated = true;
}

export function note(list: string[], what: string): void {
  if (!list.includes(what)) list.push(what);
}

export const reportedViews = (views: KeyViews): Record<string, ReportedView> =>
  Object.fromEntries(
    [...views].map(([node, view]) => [
      node,
      {
        version: view.versionHash === null ? null : view.version!.dot,
        deleted: view.version?.deleted ?? false,
        row: view.present,
        openConflicts: view.losers === '' ? [] : view.losers.split(' '),
        ...(view.rowHash === null
          ? {}
          : { rowDigest: BigInt.asUintN(64, BigInt(view.rowHash)).toString(16).padStart(16, '0') }),
      },
    ]),
  );

/** By kind in the order of the list, for people and logs. */
export const kindsText = (report: Report): string =>
  differenceKinds
    .flatMap((kind) => (report.byKind[kind] === undefined ? [] : [`${kind} ${report.byKind[kind]}`]))
    .join(', ');
