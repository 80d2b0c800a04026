/**
 * A removal that was cancelled is taken back: the node is open to writes and a member like the others again. All of it under the founding locks of all nodes that were
 * marked, so that no other job marks it, or retires its numbers, in between.
 *
 * Invariant: a node whose numbers are retired was closed from before it was last compared until then. So only the job that marked the node last opens it, and
 * a job retires numbers only while the mark is its own.
 */
import type pg from 'pg';
import { PgquorumError } from '../errors/error.ts';
import { openNode } from './close.pg.ts';

export interface Marked {
  readonly node: string;
  readonly job: string;
}

/** Those of before there were owners have none. */
const mine = '(m.change_job = $2 or m.change_job is null)';

/** `clients` by the names of their nodes. May be repeated. */
export async function takeBackMark(
  clients: ReadonlyMap<string, pg.Client>,
  { node, job, lost }: Marked & { readonly lost: boolean },
): Promise<void> {
  let isMarked = false;
  for (const client of clients.values()) {
    const { rows } = await client.query<{ retired: boolean; mine: boolean }>(
      `select m.retired, ${mine} as mine from pgquorum.member m where m.name = $1 and not m.spare and m.change is not null order by m.number desc limit 1`,
      [node, job],
    );
    if (rows[0]?.retired === true) return; // another job has removed it
    if (rows[0]?.mine === false) return; // another job goes on with it
    isMarked ||= rows.length > 0;
  }
  if (!isMarked) return;
  const leaver = clients.get(node);
  const unmark = async (client: pg.Client): Promise<void> => {
    await client.query(
      `update pgquorum.member m set change = null, change_job = null where m.name = $1 and not m.spare and not m.retired and ${mine}`,
      [node, job],
    );
  };
  // With its own mark, which whoever closes it looks at in the same way; the others' last, so that a mark stands for as long as there is something to take back.
  // Nothing closes one that is lost before its numbers are retired.
  if (leaver !== undefined) await openNode(leaver, node, unmark);
  else if (!lost) throw new PgquorumError('node_not_found', `node ${node}`);
  for (const client of clients.values()) await unmark(client);
}

/**
 * Throws `membership_busy` when the mark is not of this job: a runner that froze, and is late, does nothing more. Holds the mark until the transaction ends. Numbers
 * that are retired were so by this job, before it was run again.
 */
export async function checkMark(client: pg.Client, { node, job }: Marked): Promise<void> {
  const { rows } = await client.query<{ mine: boolean }>(
    `select m.change is not null and ${mine} as mine from pgquorum.member m where m.name = $1 and not m.spare and not m.retired for share`,
    [node, job],
  );
  if (rows.some((row) => !row.mine))
    throw new PgquorumError('membership_busy', `another job removes node ${node}, or has been cancelled`);
}

/** At the job's home, under the founding locks: what takes back waits for them, or is done. */
export async function checkWanted(home: pg.Client, job: string): Promise<void> {
  const { rows } = await home.query(
    `select from pgquorum.job j where j.id = $1 and j.state = 'running' and not j.cancel_requested`,
    [job],
  );
  if (rows.length === 0) throw new PgquorumError('job_cancelled', `job ${job}`);
}
