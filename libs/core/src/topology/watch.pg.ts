/**
 * Watches all replicas and edges and tells on one node what changes, as events: a stream reads one node, so each node tells of all. Under a lease, so
 * that one process does it for a node; that a state is told once holds without it, for what was told last is compared in the transaction that tells.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type pg from 'pg';
import { SessionLease } from '../postgres/session-lease.pg.ts';
import { transaction } from '../postgres/transaction.pg.ts';
import { tellEvent } from '../events/tell.pg.ts';
import type { ClusterNode } from './found.pg.ts';
import { replicaStatuses } from './replica-status.ts';
import type { StatusBoard } from './status.pg.ts';
import { eventOf, keyOf, observe, settled, type Observation, type Transition } from './watch.ts';

export interface WatchOptions {
  /** Whose events are written. */
  readonly node: ClusterNode;
  readonly board: StatusBoard;
  readonly intervalMs: number;
  readonly lagExceededMs: number;
  readonly onWatching?: () => void;
}

/** Runs until the signal aborts or the node is lost. */
export async function watchReplication(options: WatchOptions, signal: AbortSignal): Promise<void> {
  // Waiting for the lease is well too: somebody else watches.
  options.onWatching?.();
  const lease = await SessionLease.take(options.node.address, 'watch', signal);
  const connection = { application: 'pgquorum watch', answerWithinMs: 10_000 };
  await lease?.connected(options.node.address, connection, async (client) => {
    const seen = new Map<string, string>();
    while (!signal.aborted) {
      await lease.check();
      await look(client, options, seen);
      await sleep(options.intervalMs, undefined, { signal }).catch(() => undefined); // the loop's condition sees the abort
    }
  });
}

async function look(client: pg.Client, options: WatchOptions, seen: Map<string, string>): Promise<void> {
  const { reports, edges, readAtMs } = await options.board.read();
  const numbers = new Map(reports.map(({ name, number }) => [name, number]));
  const observations = observe({
    replicas: replicaStatuses(reports, edges, readAtMs),
    edges,
    numberOf: (name) => numbers.get(name)!,
    lagExceededMs: options.lagExceededMs,
    told: await readTold(client),
  });
  const changed = settled(observations, seen);
  if (changed.length > 0) await tell(client, changed);
}

async function readTold(client: pg.Client): Promise<Map<string, string>> {
  const { rows } = await client.query<Omit<Observation, 'facts'>>(
    'select kind, origin, target, state from pgquorum.watched',
  );
  return new Map(rows.map((row) => [keyOf(row), row.state]));
}

async function tell(client: pg.Client, observations: readonly Observation[]): Promise<void> {
  await transaction(client, async () => {
    for (const change of await transitions(client, observations)) {
      const event = eventOf(change);
      if (event !== null) await tellEvent(client, event.type, event.body);
    }
  });
}

/** In the order in which they were given: that of an event stream is that of the inserts. */
async function transitions(client: pg.Client, observations: readonly Observation[]): Promise<Transition[]> {
  const { rows } = await client.query<{ place: number; was: string | null }>(
    `with seen as (
       select s.kind, s.origin, s.target, s.state, s.place, w.state as was
       from unnest($1::text[], $2::smallint[], $3::smallint[], $4::text[]) with ordinality s(kind, origin, target, state, place)
         left join pgquorum.watched w on w.kind = s.kind and w.origin = s.origin and w.target = s.target
       where w.state is distinct from s.state and not exists (select from pgquorum.member m where m.number in (s.origin, s.target) and m.retired)
     ), changed as (
       insert into pgquorum.watched as w (kind, origin, target, state) select kind, origin, target, state from seen
       on conflict (kind, origin, target) do update set state = excluded.state, since = excluded.since where w.state <> excluded.state
       returning w.kind, w.origin, w.target
     )
     select s.place::int as place, s.was from seen s join changed c on c.kind = s.kind and c.origin = s.origin and c.target = s.target order by s.place`,
    [
      observations.map(({ kind }) => kind),
      observations.map(({ origin }) => origin),
      observations.map(({ target }) => target),
      observations.map(({ state }) => state),
    ],
  );
  return rows.map(({ place, was }) => ({ ...observations[place - 1]!, was }));
}
