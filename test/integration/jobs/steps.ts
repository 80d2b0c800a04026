/** A work for tests: so many steps, each written down with the process that did it, each with its checkpoint. */
import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';
import type { JobWork } from '#core/jobs/job.ts';

export const stepsTable = 'create table step (job uuid, number integer, pid integer, began_at integer)';

export const steps: JobWork = async (job, { home }) => {
  const { to, pauseMs } = job.arguments as { to: number; pauseMs: number };
  const beganAt = (job.checkpoint as { at: number } | null)?.at ?? 0;
  const client = new pg.Client(home.address.url);
  client.on('error', () => undefined); // the query that notices it rejects
  await client.connect();
  try {
    for (let at = beganAt; at < to; at++) {
      await client.query('insert into step values ($1, $2, $3, $4)', [job.id, at + 1, process.pid, beganAt]);
      await job.report({ done: at + 1, total: to, unit: 'steps' }, { at: at + 1 });
      await sleep(pauseMs);
    }
    return { steps: to };
  } finally {
    await client.end();
  }
};
