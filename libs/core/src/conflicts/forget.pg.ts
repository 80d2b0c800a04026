/**
 * What housekeeping does with conflict records. Those that are no longer open go after their time or beyond their number, on each node by itself, in
 * small steps that hold no lock for long. Open ones stay. No delivery brings one back: its loser has been seen.
 */
import type pg from 'pg';

const rowsPerStep = 1000;

export interface ConflictRetention {
  readonly keptMax: number;
  /** Since the record was closed. */
  readonly keptMs: number;
}

/** Returns how many went. */
export async function forgetConflicts(
  client: Pick<pg.Client, 'query'>,
  { keptMax, keptMs }: ConflictRetention,
): Promise<number> {
  const tooOld = await inSteps(
    client,
    `c.state_hlc < ((extract(epoch from clock_timestamp()) * 1000)::bigint - $1::bigint) << 16`,
    [keptMs],
  );
  const { rows } = await client.query<{ hlc: string; id: string }>(
    `select c.state_hlc::text as hlc, c.id from pgquorum.conflict c where c.state <> 'open' order by c.state_hlc desc, c.id desc offset $1 limit 1`,
    [keptMax],
  );
  const newest = rows[0];
  if (newest === undefined) return tooOld;
  return (
    tooOld + (await inSteps(client, '(c.state_hlc, c.id) <= ($1::bigint, $2::uuid)', [newest.hlc, newest.id]))
  );
}

async function inSteps(
  client: Pick<pg.Client, 'query'>,
  condition: string,
  values: readonly unknown[],
): Promise<number> {
  for (let gone = 0; ;) {
    const step = await client.query(
      `delete from pgquorum.conflict d where d.state <> 'open' and d.id = any(array(
         select c.id from pgquorum.conflict c where c.state <> 'open' and ${condition} order by c.state_hlc, c.id limit ${rowsPerStep}))`,
      [...values],
    );
    gone += step.rowCount ?? 0;
    if ((step.rowCount ?? 0) < rowsPerStep) return gone;
  }
}

/** By collection; those that have no open ones too. */
export async function countOpenConflicts(
  client: Pick<pg.Client, 'query'>,
): Promise<{ collection: string; count: number }[]> {
  const { rows } = await client.query<{ collection: string; count: string }>(
    `select s.name as collection, (select count(*) from pgquorum.conflict c where c.collection = s.name and c.state = 'open')::text as count from pgquorum.collection s`,
  );
  return rows.map(({ collection, count }) => ({ collection, count: Number(count) }));
}
