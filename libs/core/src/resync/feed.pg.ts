/**
 * A feed that mends itself: where the slot that it reads is lost it makes another one. What was committed in between never comes to the topic; all who read it
 * see that the slot is another one (fed.pg.ts), and copy.
 */
import { runFeed, type FeedOptions } from '../changelog/feed.pg.ts';
import { isPgquorumError } from '../errors/error.ts';
import { withConnection } from '../postgres/connect.pg.ts';
import { SessionLease } from '../postgres/session-lease.pg.ts';
import { logSlot } from '../topology/names.ts';
import { remakeSlot } from './slot.pg.ts';
import { readSourceState, tellResync, type SourceState } from './store.pg.ts';

/** Like runFeed. */
export async function runMendedFeed(
  options: FeedOptions & { readonly cluster: string },
  signal: AbortSignal,
): Promise<void> {
  const source = await sourceOf(options);
  const synced = source?.synced ?? null;
  // Of a node that goes on under another number nothing is fed that its slot still has of before.
  if (source?.state === 'creating')
    await remakeFeed(options, { synced, reason: 'the node goes on under another number' }, signal);
  try {
    await runFeed(options, signal);
  } catch (cause) {
    if (!signal.aborted && isPgquorumError(cause) && cause.code === 'position_lost')
      await remakeFeed(options, { synced, reason: cause.detail }, signal);
    throw cause;
  }
}

const application = 'pgquorum resync feed';

const sourceOf = ({ origin }: FeedOptions): Promise<SourceState | null> =>
  withConnection(origin.address, { application, answerWithinMs: 30_000 }, (client) =>
    readSourceState(client, { origin: origin.number, log: 'capture' }),
  );

async function remakeFeed(
  { origin, cluster }: FeedOptions & { readonly cluster: string },
  lost: { readonly synced: string | null; readonly reason: string },
  signal: AbortSignal,
): Promise<void> {
  const id = { origin: origin.number as number, log: 'capture' };
  const lease = await SessionLease.take(origin.address, 'note capture', signal);
  await lease?.connected(origin.address, { application }, async (client) => {
    const source = await readSourceState(client, id);
    if (source?.synced !== lost.synced) return;
    const made = await remakeSlot(client, source?.slot ?? logSlot(cluster, origin.number), signal);
    await lease.check();
    await client.query('begin');
    await client.query('update pgquorum.progress set position = $3 where origin = $1 and log = $2', [
      id.origin,
      id.log,
      String(made.position),
    ]);
    await client.query(
      `update pgquorum.source set state = 'ready', publication = $3, generation = $4, synced = synced + 1, problem = null, problem_since = null where origin = $1 and log = $2`,
      [id.origin, id.log, made.publication, made.lsn],
    );
    await tellResync(client, { origin: id.origin, happened: 'slot remade', reason: lost.reason });
    await client.query('commit');
  });
}
