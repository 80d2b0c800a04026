/**
 * An edge that mends itself: where its position is lost it notes a new one and goes on from there, while the copier (copier.pg.ts) brings what was
 * missed. Both merge, so it does not matter in which order they come to a key.
 */
import { runEdge, type EdgeOptions } from '../apply/edge.pg.ts';
import { isPgquorumError } from '../errors/error.ts';
import { failpoint } from '../faults/failpoint.process.ts';
import { withConnection, type ConnectOptions } from '../postgres/connect.pg.ts';
import { SessionLease } from '../postgres/session-lease.pg.ts';
import {
  beginResync,
  keepNoted,
  readSourceState,
  type NotedPosition,
  type SourceId,
  type SourceState,
} from './store.pg.ts';

export interface MendedEdgeOptions extends EdgeOptions {
  /** Finds the position to go on from: everything that the origin commits later comes by the log. */
  readonly note: (source: SourceState, signal: AbortSignal) => Promise<NotedPosition>;
  /** Told whether something is missing here until it is copied, whenever the edge looks. */
  readonly onResync?: (resyncing: boolean) => void;
}

/** Like runEdge. */
export async function runMendedEdge(options: MendedEdgeOptions, signal: AbortSignal): Promise<void> {
  const id = { origin: options.origin.number, log: options.log };
  const synced = await noteIfLost(options, id, signal);
  if (signal.aborted) return;
  try {
    await runEdge(options, signal);
  } catch (cause) {
    if (!signal.aborted && isPgquorumError(cause) && cause.code === 'position_lost')
      await begin(options, { ...id, synced, reason: cause.detail });
    throw cause;
  }
}

const connection = ({ origin, target }: EdgeOptions): ConnectOptions => ({
  application: `pgquorum resync ${origin.name} ${target.name}`,
  answerWithinMs: 30_000,
});

async function begin(
  options: MendedEdgeOptions,
  { synced, reason, ...id }: SourceId & { readonly synced: string | null; readonly reason: string },
): Promise<void> {
  options.onResync?.(true);
  await withConnection(options.target.address, connection(options), async (control) => {
    if (await beginResync(control, { ...id, reason, synced, phase: 'noting' }))
      options.logger.warn({ reason }, 'changes were missed: a resync begins');
  });
}

/** Gives back which position the edge goes on from; null when the node is no source yet. */
async function noteIfLost(
  options: MendedEdgeOptions,
  id: SourceId,
  signal: AbortSignal,
): Promise<string | null> {
  return withConnection(options.target.address, connection(options), async (control) => {
    const found = await readSourceState(control, id);
    if (found?.resync?.phase === 'noting') await noteAlone(options, id, control, signal);
    const now = await readSourceState(control, id);
    options.onResync?.(now?.state === 'resync');
    return now?.synced ?? null;
  });
}

/** Of several processes one notes: a slot that another one has just made must not be made again. */
async function noteAlone(
  options: MendedEdgeOptions,
  id: SourceId,
  control: Parameters<typeof readSourceState>[0],
  signal: AbortSignal,
): Promise<void> {
  const lease = await SessionLease.take(options.target.address, `note ${id.log} ${id.origin}`, signal);
  if (lease === null) return;
  try {
    const source = await readSourceState(control, id);
    if (source?.resync?.phase !== 'noting') return;
    const noted = await options.note(source, signal);
    failpoint('resync-slot-noted');
    await lease.check();
    await keepNoted(control, id, noted);
    failpoint('resync-position-kept');
    options.logger.info({ generation: noted.generation }, 'a position is noted: what was missed is copied');
  } finally {
    await lease.release();
  }
}
