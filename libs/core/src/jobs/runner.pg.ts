/**
 * Runs the jobs of one node, a bounded number at once. Any number of runners may be at it: the lock of each job has one holder (run-job.pg.ts). A holder that froze keeps
 * its lock, so each runner watches the jobs that others run, and takes the lock from one that says nothing any more.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type pg from 'pg';
import type { Logger } from '../observability/logger.process.ts';
import { closeClient, connect } from '../postgres/connect.pg.ts';
import { SilentHolder } from '../postgres/silent-holder.pg.ts';
import type { ClusterNode } from '../topology/found.pg.ts';
import type { JobWork } from './job.ts';
import { jobLockSql, runJob } from './run-job.pg.ts';

const lookEveryMs = 500;
const lookedAtMax = 200;
/** A runner says something about its job as often as this looks. */
const silentLooksMax = 20;
const watchedMax = 50;

export interface RunnerOptions {
  readonly home: ClusterNode;
  readonly nodes: readonly ClusterNode[];
  /** By kind. Jobs of other kinds wait for a runner that has them. */
  readonly works: Readonly<Record<string, JobWork>>;
  readonly atOnceMax: number;
  readonly logger: Logger;
  readonly onHealthy?: () => void;
}

/** Runs until the signal aborts; what runs then is left to the next runner, from its checkpoint. */
export async function runJobs(options: RunnerOptions, signal: AbortSignal): Promise<void> {
  const { home, atOnceMax, logger } = options;
  const client = await connect(home.address, { application: 'pgquorum jobs', answerWithinMs: 10_000 });
  const stop = new AbortController();
  const onAbort = (): void => stop.abort();
  signal.addEventListener('abort', onAbort, { once: true });
  if (signal.aborted) onAbort();
  const running = new Map<string, Promise<void>>();
  const others = new OthersJobs(client, options);
  try {
    while (!signal.aborted) {
      const free = atOnceMax - running.size;
      for (const id of free > 0
        ? await findJobs(client, options, { limit: free, without: [...running.keys()] })
        : []) {
        const run = runJob({ ...options, id }, stop.signal)
          .catch((cause: unknown) =>
            logger.warn({ job: id, err: cause }, 'a job could not be run: it is tried again'),
          )
          .finally(() => running.delete(id));
        running.set(id, run);
      }
      await others.look([...running.keys()]);
      options.onHealthy?.();
      await sleep(lookEveryMs, undefined, { signal }).catch(() => undefined); // the loop's condition sees the abort
    }
  } finally {
    signal.removeEventListener('abort', onAbort);
    stop.abort();
    await Promise.all(running.values());
    await closeClient(client);
  }
}

/** Jobs that other runners hold: whose runner has frozen loses its session, and the job is anybody's. */
class OthersJobs {
  readonly #client: pg.Client;
  readonly #options: RunnerOptions;
  #holders = new Map<string, SilentHolder>();

  constructor(client: pg.Client, options: RunnerOptions) {
    this.#client = client;
    this.#options = options;
  }

  async look(own: readonly string[]): Promise<void> {
    const { works, logger } = this.#options;
    const { rows } = await this.#client.query<{ id: string; key: string }>(
      `select j.id, ${jobLockSql('j.id')}::text as key from pgquorum.job j where j.state = 'running' and j.kind = any($1::text[]) and j.id <> all($2::uuid[]) order by j.created_at, j.id limit ${watchedMax}`,
      [Object.keys(works), own],
    );
    this.#holders = new Map(
      rows.map(({ id }) => [id, this.#holders.get(id) ?? new SilentHolder(silentLooksMax)]),
    );
    for (const { id, key } of rows)
      if (await this.#holders.get(id)!.look(this.#client, key))
        logger.warn({ job: id }, 'the runner of a job says nothing any more: its session is ended');
  }
}

/** Due, and nobody's: those that wait, and those that say running though nobody holds their lock. The locks that this takes to see it go with the statement. */
async function findJobs(
  client: pg.Client,
  { works }: RunnerOptions,
  { limit, without }: { readonly limit: number; readonly without: readonly string[] },
): Promise<string[]> {
  const { rows } = await client.query<{ id: string }>(
    `with due as materialized (
       select j.id from pgquorum.job j
       where j.state in ('waiting', 'running') and (j.state = 'running' or j.due_at <= clock_timestamp()) and j.kind = any($1::text[]) and j.id <> all($2::uuid[])
       order by j.created_at, j.id limit ${lookedAtMax})
     select d.id from due d where pg_try_advisory_xact_lock(${jobLockSql('d.id')}) limit $3`,
    [Object.keys(works), without, limit],
  );
  return rows.map(({ id }) => id);
}
