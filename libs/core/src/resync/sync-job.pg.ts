/**
 * The job `sync`: has a node copy the states of all keys from all others, though its edges have missed nothing that anybody knows of. The logs go on from where
 * they are; the copying is that of a resync, done by the replicator that serves the node. The job begins it and watches it; cancelling the job does not end it.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type pg from 'pg';
import { PgquorumError } from '../errors/error.ts';
import type { JobHandle, JobWork } from '../jobs/job.ts';
import { withConnection } from '../postgres/connect.pg.ts';
import { beginResync } from './store.pg.ts';

export interface SyncArguments {
  readonly node: string;
}

interface Checkpoint {
  /** Numbers of the nodes that are copied from. */
  readonly origins: readonly number[];
}

const lookEveryMs = 500;
const connection = { application: 'pgquorum sync', answerWithinMs: 30_000 };

export const syncWork =
  (): JobWork =>
  async (job, { nodes }) => {
    const { node: name } = job.arguments as SyncArguments;
    const node = nodes.find((one) => one.name === name);
    if (node === undefined) throw new PgquorumError('node_not_found', `node ${name}`);
    return withConnection(node.address, connection, async (client) => {
      const { origins } = (job.checkpoint as Checkpoint | null) ?? (await begin(client, job));
      await finished(client, origins, job);
      return { node: name, from: nodes.filter((one) => origins.includes(one.number)).map((one) => one.name) };
    });
  };

/** An edge that is being mended already copies everything too. */
async function begin(client: pg.Client, job: JobHandle): Promise<Checkpoint> {
  const { rows } = await client.query<{ origin: number; log: string }>(
    `select origin, log from pgquorum.source where log <> 'capture' and state <> 'creating' order by origin`,
  );
  for (const { origin, log } of rows)
    await beginResync(client, {
      origin,
      log,
      reason: 'a sync was asked for',
      phase: 'copying',
      synced: null,
    });
  const checkpoint = { origins: rows.map((row) => row.origin) };
  await job.report({ done: 0, unit: 'keys' }, checkpoint);
  return checkpoint;
}

async function finished(client: pg.Client, origins: readonly number[], job: JobHandle): Promise<void> {
  const most = { done: 0, total: 0 };
  for (;;) {
    const { rows } = await client.query<{ left: number; done: number; total: number }>(
      `select count(*)::int as left, coalesce(sum(r.copied), 0)::float8 as done, coalesce(sum(r.total), 0)::float8 as total
       from pgquorum.source s join pgquorum.resync r using (origin, log) where s.state = 'resync' and s.origin = any($1::smallint[])`,
      [origins],
    );
    const { left, done, total } = rows[0]!;
    if (left === 0) return;
    // Edges that are done have left the sums.
    most.done = Math.max(most.done, done);
    most.total = Math.max(most.total, total, most.done);
    await job.report({ ...most, unit: 'keys' });
    await sleep(lookEveryMs, undefined, { signal: job.signal });
  }
}
