/**
 * `alter table` on all masters at once: the table is locked on every one, the statement runs on all, and only then the first commits. So no master's
 * users write a table of the new shape while another master has the old one, but for the moment between the commits, or for as long as a master is away
 * that has not committed yet: its flows pause then, as for any table that differs, and the repetition of the job finishes it.
 *
 * Invariant: a master has the statement if and only if its row in pgquorum.ddl, written in the same transaction, says so.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { PgquorumError } from '../errors/error.ts';
import { failpoint } from '../faults/failpoint.process.ts';
import type { JobHandle } from '../jobs/job.ts';
import { isConnectionError, sqlStateOf } from '../postgres/sqlstate.ts';
import { caughtUp } from './caught-up.pg.ts';
import { failedOn, type OpenNode, type Place } from './nodes.pg.ts';

/** Users queue behind a lock that is waited for: not for long at a time. */
const lockTimeoutMs = 1000;
const pauseMinMs = 200;
const pauseMaxMs = 3000;
/** Of waiting for locks in one run of the job; then it gives way for longer. */
const lockWithinMs = 120_000;
const catchUpWithinMs = 30_000;

export interface AlterOptions {
  readonly job: JobHandle;
  readonly collection: string;
  /** As it was asked for. */
  readonly asked: string;
  /** With the table's full name. */
  readonly statement: string;
  readonly table: string;
  /** Nothing on its way can be in the way of it. */
  readonly additive: boolean;
}

export async function alterOnAll(place: Place, options: AlterOptions): Promise<void> {
  const { open } = place;
  const { job, additive } = options;
  const todo: OpenNode[] = [];
  for (const node of open)
    if ((await node.client.query('select from pgquorum.ddl where job = $1', [job.id])).rowCount === 0)
      todo.push(node);
  const done = open.length - todo.length;
  await job.report({ done, total: open.length, unit: 'nodes' });
  if (todo.length === 0) return;
  // What is on its way in the old shape would have to be fetched again.
  if (!additive && done === 0) await caughtUp(open, { withinMs: catchUpWithinMs, signal: job.signal });
  await lockAll(todo, options);
  await runAll(todo, options);
  job.signal.throwIfAborted();
  place.committing = true;
  await commitAll(todo, open);
  await job.report({ done: open.length, total: open.length, unit: 'nodes' }, { altered: true });
}

const mustWait = (cause: unknown): boolean => ['55P03', '40P01'].includes(sqlStateOf(cause) ?? '');

/** All or none, as often as it takes: whoever holds the table is not waited for with another master's in hand. */
async function lockAll(todo: readonly OpenNode[], { job, table }: AlterOptions): Promise<void> {
  const deadline = performance.now() + lockWithinMs;
  for (let tries = 0; ; tries++) {
    try {
      for (const { client } of todo) {
        await client.query('begin');
        await client.query(`set local lock_timeout = ${lockTimeoutMs}`);
        await client.query(`select pg_advisory_xact_lock(hashtextextended($1, 7308895))`, [
          'pgquorum collections',
        ]);
        await client.query(`lock table ${table} in access exclusive mode`);
      }
      return;
    } catch (cause) {
      await rollBack(todo);
      if (!mustWait(cause)) throw cause;
      if (performance.now() > deadline)
        throw new PgquorumError('timeout', 'somebody holds the table all the time', { cause });
      const pauseMs = Math.min(pauseMaxMs, pauseMinMs * 2 ** tries) * (0.5 + Math.random());
      await sleep(pauseMs, undefined, { signal: job.signal });
    }
  }
}

async function runAll(
  todo: readonly OpenNode[],
  { job, collection, asked, statement }: AlterOptions,
): Promise<void> {
  const ran = await Promise.allSettled(
    todo.map(async ({ client }) => {
      await client.query(statement);
      await client.query('insert into pgquorum.ddl (job, collection, statement) values ($1, $2, $3)', [
        job.id,
        collection,
        asked,
      ]);
    }),
  );
  const failures = ran.flatMap((one, at) =>
    one.status === 'rejected' ? [{ node: todo[at]!.name, cause: one.reason as unknown }] : [],
  );
  if (failures.length === 0) return;
  await rollBack(todo);
  const passing = failures.find(({ cause }) => isConnectionError(cause) || mustWait(cause));
  const detail = failures.map(({ node, cause }) => failedOn(node, cause)).join('; ');
  throw new PgquorumError(passing ? 'replicas_unavailable' : 'ddl_failed', detail, {
    cause: failures[0]!.cause,
  });
}

async function commitAll(todo: readonly OpenNode[], open: readonly OpenNode[]): Promise<void> {
  const committed = new Set(open.filter((node) => !todo.includes(node)).map(({ name }) => name));
  for (const { name, client } of todo) {
    try {
      await client.query('commit');
      failpoint('ddl-committed');
      committed.add(name);
    } catch (cause) {
      throw new PgquorumError(
        'replicas_unavailable',
        `${failedOn(name, cause)}; the statement stands on ${committed.size === 0 ? 'no master' : [...committed].join(', ')} and is finished when all can be reached`,
        { cause },
      );
    }
  }
}

const rollBack = (nodes: readonly OpenNode[]): Promise<unknown> =>
  Promise.all(
    nodes.map(({ client }) => client.query('rollback').catch(() => undefined)), // a lost connection has rolled back
  );
