/**
 * Notes a position from which an edge can be read again. It is noted before anything is copied, so each write of the origin either is visible when
 * its key is copied or comes by the log, or both. A crash half-way begins again: a slot that no position was kept of is made anew.
 */
import type pg from 'pg';
import type { NodeAddress } from '../config/settings.ts';
import { PgquorumError } from '../errors/error.ts';
import { closeClient, connect } from '../postgres/connect.pg.ts';
import type { NodeNumber } from '../versioning/version.ts';
import { edgeSlot } from '../topology/names.ts';
import { remakeSlot, runningEnded } from './slot.pg.ts';
import type { NotedPosition, SourceState } from './store.pg.ts';

interface Place {
  readonly number: NodeNumber;
  readonly name: string;
  readonly address: NodeAddress;
}

export interface EdgePlaces {
  readonly cluster: string;
  readonly origin: Place;
  readonly target: Place;
}

/** The slot of an edge on its origin, made anew. */
export async function noteSlot(
  { cluster, origin, target }: EdgePlaces,
  source: SourceState,
  signal: AbortSignal,
): Promise<NotedPosition> {
  const slot = source.slot ?? edgeSlot(cluster, origin.number, target.number);
  return onOrigin(origin, signal, async (client) => {
    await refuseRemoved(client, target);
    const made = await remakeSlot(client, slot, signal);
    return {
      slot,
      publication: made.publication,
      generation: made.lsn,
      positions: new Map([[0, made.position]]),
    };
  });
}

/** One that was removed and does not know it yet gets no slot: nobody would ever read it. */
async function refuseRemoved(client: pg.Client, target: Place): Promise<void> {
  const { rows } = await client.query(
    'select from pgquorum.member m where m.number = $1 and m.retired and not exists (select from pgquorum.member o where o.name = m.name and not o.retired)',
    [target.number],
  );
  if (rows.length > 0) throw new PgquorumError('node_removed', `node ${target.name}`);
}

/** The end of a topic. What is in it up to there is visible on the origin when this resolves. */
export async function noteTopic(
  origin: Place,
  end: () => Promise<{ readonly generation: string; readonly positions: ReadonlyMap<number, bigint> }>,
  signal: AbortSignal,
): Promise<NotedPosition> {
  return onOrigin(origin, signal, async (client) => {
    const { rows } = await client.query<{ fed: string }>(
      `select coalesce((select s.generation from pgquorum.source s where s.log = 'capture'), '') as fed`,
    );
    const { generation, positions } = await end();
    await runningEnded(client, signal);
    return { slot: null, publication: null, generation, positions, fed: rows[0]!.fed };
  });
}

/** Without a deadline for answers: a slot is there only once the transactions that run on its server have ended. */
async function onOrigin<T>(
  origin: Place,
  signal: AbortSignal,
  work: (client: Awaited<ReturnType<typeof connect>>) => Promise<T>,
): Promise<T> {
  const client = await connect(origin.address, { application: `pgquorum resync ${origin.name}` });
  const close = (): void => void closeClient(client);
  signal.addEventListener('abort', close, { once: true });
  try {
    signal.throwIfAborted();
    return await work(client);
  } finally {
    signal.removeEventListener('abort', close);
    await closeClient(client);
  }
}
