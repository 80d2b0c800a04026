/** Forgets gateway requests after their time, in small steps that hold no lock for long. */
import type pg from 'pg';

const rowsPerStep = 5000;

/** Returns how many rows went. */
export async function forgetRequests(client: Pick<pg.Client, 'query'>, retentionMs: number): Promise<number> {
  let gone = 0;
  for (const table of ['request', 'gateway_request']) {
    for (;;) {
      const step = await client.query(
        `delete from pgquorum.${table} where ctid = any(array(select r.ctid from pgquorum.${table} r where r.at < clock_timestamp() - $1 * interval '1 millisecond' limit $2))`,
        [retentionMs, rowsPerStep],
      );
      gone += step.rowCount ?? 0;
      if ((step.rowCount ?? 0) < rowsPerStep) break;
    }
  }
  return gone;
}
