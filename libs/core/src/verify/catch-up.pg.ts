/**
 * Waiting until everything that was committed on some nodes by now is applied on all others, whatever log carries it. A position of the WAL tells it exactly. Of Kafka's
 * offsets nobody knows which commit they are, so there a sign of life does: it goes to every stream behind all that was committed before it, with its commit time.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type pg from 'pg';
import type { ClusterNode } from '../topology/found.pg.ts';

export interface Reached {
  readonly node: ClusterNode;
  readonly client: Pick<pg.ClientBase, 'query'>;
}

/** What was committed on a node at some time. */
export interface Mark {
  readonly origin: ClusterNode;
  readonly position: string;
  readonly at: string;
}

const everyMs = 25;

/** Now: all that is committed on these nodes is before it. */
export async function markNow(nodes: readonly Reached[]): Promise<Mark[]> {
  return Promise.all(
    nodes.map(async ({ node, client }) => {
      const { rows } = await client.query<{ position: string; at: string }>(
        `select (pg_current_wal_insert_lsn() - '0/0'::pg_lsn)::bigint::text as position, clock_timestamp()::text as at`,
      );
      // On an idle node nothing would pass the mark.
      await client.query(
        'update pgquorum.heartbeat h set at = clock_timestamp() from pgquorum.node n where h.number = n.number',
      );
      return { origin: node, ...rows[0]! };
    }),
  );
}

/** Commit times are kept in milliseconds, rounded. Unless every lane of the log is at the mark, and nothing that was missed is still being copied. */
const behindSql = `select where not exists (select from pgquorum.source s where s.origin = $1 and s.state = 'ready' and coalesce((
    select bool_and(p.lanes >= s.lanes and case s.log when 'wal' then p.position >= $2::bigint else p.commit_time > $3::timestamptz + interval '1 millisecond' end)
    from (select count(*) as lanes, min(position) as position, min(coalesce(commit_time, '-infinity')) as commit_time
          from pgquorum.progress where origin = s.origin and log = s.log group by stream) p), false))`;
/** In place of an origin, for a target that has parked changes. */
export const parkedPair = 'parked';
const parkedSql = 'select from pgquorum.parked where collection = $1 limit 1';

/** Pairs [origin, target] that are not at the marks. */
async function behind(marks: readonly Mark[], targets: readonly Reached[]): Promise<[string, string][]> {
  const found: [string, string][] = [];
  for (const { node, client } of targets)
    for (const { origin, position, at } of marks) {
      if (origin.number === node.number) continue;
      const { rows } = await client.query(behindSql, [origin.number, position, at]);
      if (rows.length > 0) found.push([origin.name, node.name]);
    }
  return found;
}

/**
 * Resolves with nothing once all targets have applied the marks, with the pairs [origin, target] that have not when the time is over. What is
 * parked there (a locked row, a paused collection) was not applied either: it is waited for as long.
 */
export async function caughtUp(
  marks: readonly Mark[],
  targets: readonly Reached[],
  options: { readonly collection: string; readonly withinMs: number; readonly signal: AbortSignal },
): Promise<[string, string][]> {
  const deadline = Date.now() + options.withinMs;
  for (;;) {
    options.signal.throwIfAborted();
    const missing = await behind(marks, targets);
    if (missing.length === 0) {
      const parked: [string, string][] = [];
      for (const { node, client } of targets)
        if ((await client.query(parkedSql, [options.collection])).rows.length > 0)
          parked.push([parkedPair, node.name]);
      if (parked.length === 0) return [];
      if (Date.now() > deadline) return parked;
    }
    if (Date.now() > deadline) return missing;
    await sleep(everyMs, undefined, { signal: options.signal }).catch(() => undefined); // the loop's head sees the abort
  }
}
