/** Waits until every master has applied what every other one had committed when it was asked, by the times of commits on their origin. */
import { setTimeout as sleep } from 'node:timers/promises';
import type pg from 'pg';

const everyMs = 100;

export interface NumberedClient {
  readonly number: number;
  readonly client: pg.ClientBase;
}

/** False when that took too long: a paused collection, or an edge that does not move. */
export async function caughtUp(
  nodes: readonly NumberedClient[],
  { withinMs, signal }: { readonly withinMs: number; readonly signal: AbortSignal },
): Promise<boolean> {
  const marks = new Map<number, string>();
  for (const { number, client } of nodes) {
    const { rows } = await client.query<{ at: string }>('select clock_timestamp()::text as at');
    marks.set(number, rows[0]!.at);
  }
  const deadline = performance.now() + withinMs;
  const behind = async (): Promise<boolean> => {
    for (const { number, client } of nodes) {
      const others = [...marks].filter(([origin]) => origin !== number);
      const { rows } = await client.query<{ behind: boolean }>(
        `select exists (select from unnest($1::smallint[], $2::timestamptz[]) m(origin, at) where not coalesce((
           select bool_and(p.commit_time > m.at) from pgquorum.progress p, pgquorum.node n where p.origin = m.origin and p.log = n.log), false))
         as behind`,
        [others.map(([origin]) => origin), others.map(([, at]) => at)],
      );
      if (rows[0]!.behind) return true;
    }
    return false;
  };
  while (await behind()) {
    if (performance.now() > deadline) return false;
    await sleep(everyMs, undefined, { signal });
  }
  return true;
}
