/** What came in for one key, what stands there, and what is to become of it. Pure. */
import { keyText, type ConflictRecord, type WriteChange } from '../changelog/change.ts';
import { advances } from '../conflicts/record.ts';
import type { Clock } from '../versioning/clock.ts';
import type { PurgeHorizon } from '../versioning/purge.ts';
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

/** The gateway requests of what came in, those of the losers of whole states included. */
export function requestsOf(
  writes: readonly WriteChange[],
): { key: string; request: string; version: Version }[] {
  return writes.flatMap((write) =>
    [write.version, ...write.losers.map((record) => record.loser)].flatMap((version) =>
      version.request === null ? [] : [{ key: keyText(write.key), request: version.request, version }],
    ),
  );
}

/** One record for each id, the one whose state is furthest: a statement can not affect a row twice. */
export function furthest(records: readonly ConflictRecord[]): ConflictRecord[] {
  const byId = new Map<string, ConflictRecord>();
  for (const record of records) {
    const known = byId.get(record.id);
    if (known === undefined || advances(record, known)) byId.set(record.id, record);
  }
  return [...byId.values()];
}
