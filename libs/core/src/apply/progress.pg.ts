/** Where an edge goes on after a start: the rows of pgquorum.progress, brought to the number of lanes that it has now. */
import type pg from 'pg';
import { PgquorumError } from '../errors/error.ts';
import { transaction } from '../postgres/transaction.pg.ts';

export interface SourceRow {
  readonly state: string;
  readonly slot: string | null;
  readonly publication: number | null;
  readonly generation: string;
}

export interface EdgeStart {
  readonly source: SourceRow;
  /** When the server was started that said so. */
  readonly serverStarted: string;
  /** Stream -> position that every lane holds. A stream that is not complete is missing: it is read from its beginning. */
  readonly from: ReadonlyMap<number, bigint>;
}

interface StartOptions {
  readonly origin: number;
  readonly log: string;
  readonly lanes: number;
}

/** Throws `not_ready` when the origin is no source here. */
export const readStart = (client: pg.Client, options: StartOptions): Promise<EdgeStart> =>
  transaction(client, () => readStartWithin(client, options));

async function readStartWithin(client: pg.Client, { origin, log, lanes }: StartOptions): Promise<EdgeStart> {
  const sources = await client.query<{
    state: string;
    slot: string | null;
    publication: string | null;
    generation: string;
    lanes: number;
    readable: boolean;
    started: string;
  }>(
    `select s.state, s.slot, s.publication::text as publication, s.generation, s.lanes,
       s.state = 'ready' or s.state = 'resync' and exists (select from pgquorum.resync r where r.origin = s.origin and r.log = s.log and r.phase = 'copying') as readable,
       pg_postmaster_start_time()::text as started
     from pgquorum.source s where s.origin = $1 and s.log = $2 for update`,
    [origin, log],
  );
  const source = sources.rows[0];
  if (source?.readable !== true)
    throw new PgquorumError(
      'not_ready',
      `origin ${origin} is no source here yet, or its position is lost and no other one noted`,
    );
  const rows = await client.query<{ stream: number; first: string; lanes: number }>(
    'select stream, min(position)::text as first, count(*)::int as lanes from pgquorum.progress where origin = $1 and log = $2 group by stream',
    [origin, log],
  );
  const from = new Map(
    rows.rows.filter((row) => row.lanes === source.lanes).map((row) => [row.stream, BigInt(row.first)]),
  );
  if (source.lanes !== lanes) {
    await client.query('delete from pgquorum.progress where origin = $1 and log = $2', [origin, log]);
    for (const [stream, position] of from) {
      await client.query(
        'insert into pgquorum.progress (origin, log, stream, lane, position) select $1, $2, $3, l, $4 from generate_series(0, $5::int - 1) l',
        [origin, log, stream, String(position), lanes],
      );
    }
    await client.query('update pgquorum.source set lanes = $3 where origin = $1 and log = $2', [
      origin,
      log,
      lanes,
    ]);
  }
  return {
    source: {
      state: source.state,
      slot: source.slot,
      publication: source.publication === null ? null : Number(source.publication),
      generation: source.generation,
    },
    serverStarted: source.started,
    from,
  };
}

export async function setProblem(
  client: pg.Client,
  options: { readonly origin: number; readonly log: string; readonly problem: string | null },
): Promise<void> {
  await client.query(
    `update pgquorum.source set problem = $3, problem_since = case when $3::text is null then null else coalesce(problem_since, clock_timestamp()) end, seen_at = clock_timestamp()
     where origin = $1 and log = $2 and problem is distinct from $3`,
    [options.origin, options.log, options.problem],
  );
}

/** What a reader learned of its log's identity; a log of the same name with another one is not the same log. */
export async function setGeneration(
  client: pg.Client,
  options: { readonly origin: number; readonly log: string; readonly generation: string },
): Promise<void> {
  await client.query('update pgquorum.source set generation = $3 where origin = $1 and log = $2', [
    options.origin,
    options.log,
    options.generation,
  ]);
}
