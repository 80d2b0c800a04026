/** What came in for one key, what stands there, and what is to become of it. Pure. */
import { keyText, type ConflictRecord, type WriteChange } from '../changelog/change.ts';
import { advances } from '../conflicts/record.ts';
import type { Clock } from '../versioning/clock.ts';
import type { PurgeHorizon } from '../versioning/purge.ts';
import type { RememberedRequest } from '../versioning/merge.ts';
import type { Version } from '../versioning/version.ts';
import type { KeyPlan } from './plan.ts';

export interface KeyWork {
  readonly key: readonly string[];
  readonly shard: number;
  readonly writes: WriteChange[];
}

export interface LocalVersion {
  readonly version: Version;
  readonly seen: Clock;
  readonly seenText: string;
}

export interface Planned {
  readonly work: KeyWork;
  readonly local: LocalVersion | undefined;
  readonly plan: KeyPlan;
  readonly horizon: PurgeHorizon;
}

/** The gateway requests of what came in, to be remembered here too: of its versions, and of writes that were overwritten before they left their master. */
export function requestsOf(
  writes: readonly (Pick<WriteChange, 'key' | 'version' | 'requests'> & {
    readonly losers: readonly Pick<ConflictRecord, 'loser'>[];
  })[],
): { key: string; write: RememberedRequest }[] {
  return writes.flatMap(({ key, version, losers, requests }) => {
    const versions = [version, ...losers.map((record) => record.loser)].filter((one) => one.request !== null);
    return [...versions.map(rememberedOf), ...requests].map((write) => ({ key: keyText(key), write }));
  });
}

/** What it had seen matters only where fields merge by their own rules. */
const rememberedOf = ({ request, dot, hlc, clock, crdt }: Version): RememberedRequest => ({
  request: request!,
  dot,
  hlc,
  ...(crdt === null ? {} : { clock }),
});

/** One record for each id, the one whose state is furthest: a statement can not affect a row twice. */
export function furthest(records: readonly ConflictRecord[]): ConflictRecord[] {
  const byId = new Map<string, ConflictRecord>();
  for (const record of records) {
    const known = byId.get(record.id);
    if (known === undefined || advances(record, known)) byId.set(record.id, record);
  }
  return [...byId.values()];
}
