/**
 * One run of one job, under the job's advisory lock on a connection of its own: a runner that dies loses the connection, the server frees the lock, and
 * another runner goes on from the checkpoint. All that the run writes about the job goes through that connection, so whoever has lost the lock can not
 * write any more. Invariant: a job's row leaves `running` only in the hands of the lock's holder.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type pg from 'pg';
import { isPgquorumError, PgquorumError } from '../errors/error.ts';
import { failpoint } from '../faults/failpoint.process.ts';
import type { Logger } from '../observability/logger.process.ts';
import { withConnection } from '../postgres/connect.pg.ts';
import { classifySqlState, isConnectionError, sqlStateOf } from '../postgres/sqlstate.ts';
import type { ClusterNode } from '../topology/found.pg.ts';
import { retryPauseMs, type JobError, type JobHandle, type JobWork } from './job.ts';

const watchEveryMs = 500;
const answerWithinMs = 10_000;
/** Progress without a checkpoint is written this often at most. */
const progressEveryMs = 250;
/** How long a work may take to end when its runner has to: its process ends then, or its lock is another's. A cancelled one has the time that it needs. */
const endWithinMs = 10_000;
/** What passes by itself is waited for this long without a new checkpoint. */
const retryForMs = 3_600_000;
/** A job that takes its runner with it again and again without getting any further. */
const deathsMax = 10;

export const jobLockSql = (id: string): string =>
  `hashtextextended('pgquorum job ' || ${id}::text, 7308895164427563361)`;

export interface RunOptions {
  readonly id: string;
  readonly home: ClusterNode;
  readonly nodes: readonly ClusterNode[];
  readonly works: Readonly<Record<string, JobWork>>;
  readonly logger: Logger;
}

interface Claimed {
  readonly kind: string;
  readonly arguments: unknown;
  readonly secret: unknown;
  readonly checkpoint: unknown;
  readonly state: string;
  readonly takesBack: boolean;
}

type Ending = 'cancelled' | 'stopping' | 'lost';
/** Null when the work was left behind. */
type Outcome = { readonly result: unknown } | { readonly failure: unknown } | null;

/** Does nothing when the job is another's, or has ended. `stop` ends the run and leaves the job to whoever is next. */
export async function runJob(options: RunOptions, stop: AbortSignal): Promise<void> {
  const application = `pgquorum job ${options.id}`;
  await withConnection(options.home.address, { application, answerWithinMs }, async (client) => {
    // A runner whose machine is gone sends no good-bye: its server would hold the lock for hours.
    await client.query(
      'set tcp_keepalives_idle = 10; set tcp_keepalives_interval = 5; set tcp_keepalives_count = 3',
    );
    const { rows } = await client.query<{ held: boolean }>(
      `select pg_try_advisory_lock(${jobLockSql('$1::uuid')}) as held`,
      [options.id],
    );
    if (!rows[0]!.held) return;
    const claimed = await claim(client, options.id);
    if (claimed?.state === 'running') await new JobRun(client, claimed, options).run(stop);
  });
}

/** Under the lock. A job found running has lost its runner. */
async function claim(client: pg.Client, id: string): Promise<Claimed | null> {
  const { rows } = await client.query<Claimed>(
    `update pgquorum.job j set updated_at = clock_timestamp(), deaths = j.deaths + (j.state = 'running')::integer,
       state = case when j.cancel_requested and j.on_cancel = 'ends' then 'cancelled' when j.state = 'running' and j.deaths >= ${deathsMax} then 'failed' else 'running' end,
       error = case when not (j.cancel_requested and j.on_cancel = 'ends') and j.state = 'running' and j.deaths >= ${deathsMax} then $2::jsonb else j.error end
     where j.id = $1 and (j.state = 'running' or (j.state = 'waiting' and j.due_at <= clock_timestamp()))
     returning j.kind, j.arguments, j.secret, j.checkpoint, j.state, j.cancel_requested and j.on_cancel = 'takes back' as "takesBack"`,
    [
      id,
      JSON.stringify(
        errorOf(new PgquorumError('job_abandoned', `${deathsMax} runners ended in the middle of it`)),
      ),
    ],
  );
  return rows[0] ?? null;
}

class JobRun {
  readonly #client: pg.Client;
  readonly #claimed: Claimed;
  readonly #options: RunOptions;
  readonly #abort = new AbortController();
  readonly #leftBehind = Promise.withResolvers<null>();
  #ending: Ending | null = null;
  #reportedAt = -Infinity;

  constructor(client: pg.Client, claimed: Claimed, options: RunOptions) {
    this.#client = client;
    this.#claimed = claimed;
    this.#options = options;
  }

  async run(stop: AbortSignal): Promise<void> {
    const onStop = (): void => this.#end('stopping');
    stop.addEventListener('abort', onStop, { once: true });
    if (stop.aborted) onStop();
    this.#client.once('end', () => this.#end('lost'));
    const over = new AbortController();
    const watching = this.#watch(over.signal);
    try {
      const outcome = await this.#work();
      if (outcome !== null && this.#ending !== 'lost') await this.#finish(outcome);
    } catch (cause) {
      // The row says running, nobody holds the lock: the next one goes on from the checkpoint.
      this.#options.logger.warn(
        { job: this.#options.id, err: cause },
        'the outcome of a job could not be kept: it is run again',
      );
    } finally {
      over.abort();
      stop.removeEventListener('abort', onStop);
      await watching;
    }
  }

  #end(ending: Ending): void {
    if (this.#ending === null || ending === 'lost') this.#ending = ending;
    if (ending !== 'cancelled') setTimeout(() => this.#leftBehind.resolve(null), endWithinMs).unref();
    this.#abort.abort(
      new PgquorumError(ending === 'cancelled' ? 'job_cancelled' : 'shutting_down', `the job is ${ending}`),
    );
  }

  /** Sees that somebody wants the job's end, and that the lock is gone. */
  async #watch(over: AbortSignal): Promise<void> {
    while (!over.aborted) {
      try {
        const { rows } = await this.#client.query<{ asked: boolean }>(
          'select j.cancel_requested as asked from pgquorum.job j where j.id = $1',
          [this.#options.id],
        );
        if (rows[0]?.asked !== false && !this.#claimed.takesBack && !over.aborted) this.#end('cancelled');
      } catch {
        if (!over.aborted) this.#end('lost');
      }
      await sleep(watchEveryMs, undefined, { signal: over }).catch(() => undefined); // the loop's condition sees the abort
    }
  }

  async #work(): Promise<Outcome> {
    const { id, home, nodes, works } = this.#options;
    const { signal } = this.#abort;
    const job: JobHandle = {
      id,
      arguments: this.#claimed.arguments,
      secret: this.#claimed.secret,
      checkpoint: this.#claimed.checkpoint,
      signal,
      takesBack: this.#claimed.takesBack,
      report: (progress, checkpoint) => this.#report(progress, checkpoint),
      reportLast: async (progress, checkpoint) => {
        await this.#refuseCancel();
        await this.#report(progress, checkpoint);
      },
    };
    const working = works[this.#claimed.kind]!(job, { home, nodes }).then(
      (result) => ({ result }),
      (failure: unknown) => ({ failure }),
    );
    return Promise.race([working, this.#leftBehind.promise]);
  }

  /** This or a cancelling is first: both write the row. */
  async #refuseCancel(): Promise<void> {
    this.#abort.signal.throwIfAborted();
    const refused = await this.#client.query(
      `update pgquorum.job j set on_cancel = 'refused' where j.id = $1 and j.state = 'running' and not j.cancel_requested`,
      [this.#options.id],
    );
    if (refused.rowCount === 0) {
      this.#end('cancelled');
      this.#abort.signal.throwIfAborted();
    }
  }

  async #report(progress: Parameters<JobHandle['report']>[0], checkpoint: unknown): Promise<void> {
    this.#abort.signal.throwIfAborted();
    const now = performance.now();
    if (checkpoint === undefined && now - this.#reportedAt < progressEveryMs) return;
    this.#reportedAt = now;
    const { done, total = null, unit } = progress;
    await this.#client.query(
      `update pgquorum.job j set progress = $2::jsonb, updated_at = clock_timestamp(), checkpoint = coalesce(n.checkpoint, j.checkpoint),
         error = case when n.further then null else j.error end, failures = case when n.further then 0 else j.failures end,
         failing_since = case when n.further then null else j.failing_since end, deaths = case when n.further then 0 else j.deaths end
       from (select $3::jsonb as checkpoint, $3::jsonb is distinct from k.checkpoint and $3::jsonb is not null as further from pgquorum.job k where k.id = $1) n
       where j.id = $1 and j.state = 'running'`,
      [
        this.#options.id,
        JSON.stringify({ done, total, unit }),
        checkpoint === undefined ? null : JSON.stringify(checkpoint),
      ],
    );
    if (checkpoint !== undefined) failpoint('job-checkpointed');
  }

  async #finish(outcome: NonNullable<Outcome>): Promise<void> {
    const { id } = this.#options;
    if ('result' in outcome) failpoint('job-worked');
    if ('result' in outcome)
      return this.#claimed.takesBack
        ? this.#write(`state = 'cancelled', error = null`, [])
        : this.#write(`state = 'done', error = null, result = $2::jsonb`, [
            JSON.stringify(outcome.result ?? null),
          ]);
    // What has something to take back is run once more.
    if (this.#ending === 'cancelled')
      return this.#write(
        `state = case when j.on_cancel = 'takes back' then 'waiting' else 'cancelled' end, error = null`,
        [],
      );
    if (this.#ending === 'stopping') return this.#write(`state = 'waiting'`, []);
    const { failure } = outcome;
    const error = errorOf(failure);
    this.#options.logger.warn({ job: id, kind: this.#claimed.kind, err: failure }, 'a job failed');
    if (!mayPass(failure)) return this.#write(`state = 'failed', error = $2::jsonb`, [JSON.stringify(error)]);
    const { rows } = await this.#client.query<{ failures: number }>(
      'select j.failures + 1 as failures from pgquorum.job j where j.id = $1',
      [id],
    );
    return this.#write(
      `state = case when clock_timestamp() - j.failing_since > interval '${retryForMs} milliseconds' then 'failed' else 'waiting' end, error = $2::jsonb,
       failures = j.failures + 1, failing_since = coalesce(j.failing_since, clock_timestamp()), due_at = clock_timestamp() + $3 * interval '1 millisecond'`,
      [JSON.stringify(error), retryPauseMs(rows[0]?.failures ?? 1)],
    );
  }
  async #write(assignments: string, values: readonly unknown[]): Promise<void> {
    await this.#client.query(
      `update pgquorum.job j set updated_at = clock_timestamp(), ${assignments} where j.id = $1 and j.state = 'running'`,
      [this.#options.id, ...values],
    );
  }
}

/** What may be shown of an error: our own detail, of others no more than the SQLSTATE, since their texts hold values. */
function errorOf(failure: unknown): JobError {
  if (isPgquorumError(failure)) return { code: failure.code, detail: failure.detail };
  if (isConnectionError(failure))
    return { code: 'node_unreachable', detail: 'a connection to a node was lost' };
  const sqlstate = sqlStateOf(failure);
  return {
    code: 'internal',
    detail:
      sqlstate === null
        ? "the replicator's log has the details"
        : `a database answered SQLSTATE ${sqlstate}; the replicator's log has the details`,
  };
}

function mayPass(failure: unknown): boolean {
  if (isPgquorumError(failure)) return failure.entry.retry;
  if (isConnectionError(failure)) return true;
  const sqlstate = sqlStateOf(failure);
  return sqlstate !== null && classifySqlState(sqlstate) === 'retry';
}
