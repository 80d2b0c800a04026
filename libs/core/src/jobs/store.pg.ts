/** The jobs of one node as rows. A job that is running belongs to whoever holds its advisory lock (run-job.pg.ts); anyone may ask for its end. */
import type pg from 'pg';
import { PgquorumError } from '../errors/error.ts';
import { isFinished, type Job, type JobQuery } from './job.ts';

type Client = Pick<pg.ClientBase, 'query'>;

const rowsPerStep = 1000;

const time = (column: string): string =>
  `to_char(j.${column} at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')`;

/** Columns of `pgquorum.job j` as a Job. */
export const jobColumns = `j.id, j.kind, j.arguments, j.state, j.cancel_requested as "cancelRequested", j.progress, j.result, j.error, j.failures,
  ${time('created_at')} as "createdAt", ${time('updated_at')} as "updatedAt"`;

export interface JobRequest {
  /** Lower case with hyphens; a key of the replicator's works. */
  readonly kind: string;
  readonly arguments: unknown;
  readonly unit?: string;
  /** Of the arguments what nobody may see: kept until the job has ended. */
  readonly secret?: unknown;
  /** Cancelling it is work too: it takes back what it has done (JobHandle.takesBack). */
  readonly takesBack?: boolean;
}

/** Makes `client`'s node the job's home. */
export async function startJob(
  client: Client,
  { kind, arguments: given, unit, secret, takesBack }: JobRequest,
): Promise<Job> {
  const { rows } = await client.query<Job>(
    `insert into pgquorum.job as j (kind, arguments, progress, secret, on_cancel) values ($1, $2::jsonb, $3::jsonb, $4::jsonb, $5) returning ${jobColumns}`,
    [
      kind,
      JSON.stringify(given ?? null),
      JSON.stringify({ done: 0, total: null, unit: unit ?? 'steps' }),
      secret === undefined ? null : JSON.stringify(secret),
      takesBack === true ? 'takes back' : 'ends',
    ],
  );
  return rows[0]!;
}

export async function readJob(client: Client, id: string): Promise<Job | null> {
  const { rows } = await client.query<Job>(`select ${jobColumns} from pgquorum.job j where j.id = $1`, [id]);
  return rows[0] ?? null;
}

/** Newest first, one more than the page has, if there are more. */
export async function listJobs(client: Client, query: JobQuery): Promise<Job[]> {
  const { state, kind, after, limit } = query;
  const { rows } = await client.query<Job>(
    `select ${jobColumns} from pgquorum.job j
     where ($1::text is null or j.state = $1) and ($2::text is null or j.kind = $2)
       and ($3::timestamptz is null or j.created_at < $3 or (j.created_at = $3 and j.id > $4::uuid))
     order by j.created_at desc, j.id limit $5`,
    [state, kind, after?.createdAt ?? null, after?.id ?? null, limit + 1],
  );
  return rows;
}

/** A waiting job is cancelled at once, unless it has something to take back; a running one is told to end. Null when there is none; an error when it has ended otherwise, or can not be cancelled. */
export async function cancelJob(client: Client, id: string): Promise<Job | null> {
  const { rows } = await client.query<Job>(
    `update pgquorum.job j set cancel_requested = true, updated_at = clock_timestamp(), due_at = case when j.state = 'waiting' then clock_timestamp() else j.due_at end,
       state = case when j.state = 'waiting' and j.on_cancel = 'ends' then 'cancelled' else j.state end
     where j.id = $1 and j.state in ('waiting', 'running') and j.on_cancel <> 'refused' returning ${jobColumns}`,
    [id],
  );
  const found = rows[0] ?? (await readJob(client, id));
  if (found !== null && isFinished(found.state) && found.state !== 'cancelled')
    throw new PgquorumError('job_finished', `job ${id} is ${found.state}`);
  if (found !== null && rows.length === 0 && !isFinished(found.state))
    throw new PgquorumError('job_irrevocable', `job ${id}`);
  return found;
}

export interface JobRetention {
  readonly keptMs: number;
  readonly keptMax: number;
}

/** Forgets jobs that have ended, after their time or beyond their number, in small steps. Returns how many went. */
export async function forgetJobs(client: Client, { keptMs, keptMax }: JobRetention): Promise<number> {
  for (let gone = 0; ;) {
    const step = await client.query(
      `delete from pgquorum.job d where d.state in ('done', 'failed', 'cancelled') and d.id = any(array(
         select j.id from pgquorum.job j where j.state in ('done', 'failed', 'cancelled')
           and ((j.updated_at, j.id) <= (select f.updated_at, f.id from pgquorum.job f where f.state in ('done', 'failed', 'cancelled') order by f.updated_at desc, f.id desc offset $2 limit 1)
             or j.updated_at < clock_timestamp() - $1 * interval '1 millisecond')
         order by j.updated_at, j.id limit ${rowsPerStep}))`,
      [keptMs, keptMax],
    );
    gone += step.rowCount ?? 0;
    if ((step.rowCount ?? 0) < rowsPerStep) return gone;
  }
}
