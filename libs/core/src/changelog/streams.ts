/** Which streams of a log (partitions of a topic) the changes of a batch go to. Pure. */
import type { Change, LogBatch } from './change.ts';

/** One key is always on one stream, so that it keeps its order; a sign of life goes to every stream, so that none looks idle. */
export function streamsOf(change: Change, streams: number): readonly number[] {
  return change.kind === 'heartbeat'
    ? Array.from({ length: streams }, (_, stream) => stream)
    : [change.shard % streams];
}

export interface StreamPart {
  readonly stream: number;
  readonly changes: readonly Change[];
  readonly bytes: number;
}

/** A batch cut by stream, each part in the batch's order. */
export function partsByStream(batch: Pick<LogBatch, 'changes'>, streams: number): StreamPart[] {
  const parts = new Map<number, Change[]>();
  for (const change of batch.changes) {
    for (const stream of streamsOf(change, streams)) {
      const part = parts.get(stream);
      if (part === undefined) parts.set(stream, [change]);
      else part.push(change);
    }
  }
  return [...parts].map(([stream, changes]) => ({
    stream,
    changes,
    bytes: changes.reduce((sum, change) => sum + rowBytes(change), 0),
  }));
}

/** Bytes of the rows that a change holds. */
export function rowBytes(change: Change): number {
  if (change.kind === 'heartbeat') return 0;
  if (change.kind === 'conflict') return change.record.row?.length ?? 0;
  let bytes = 0;
  for (const value of change.row?.values ?? []) bytes += value?.length ?? 0;
  for (const loser of change.losers) bytes += loser.row?.length ?? 0;
  return bytes;
}
