/**
 * Whether a node may be read from: what a server wrote since its start leaves it only after it has been found to be the database that others remember
 * (identity.ts). That is found out within moments of a start when nothing is wrong, so it is waited for.
 *
 * Asked on a connection it holds for as long as that lives: the server may be started anew between an answer and the next connection. So whoever reads asks on the
 * connection that he reads from.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type pg from 'pg';
import { PgquorumError } from '../errors/error.ts';
import { withConnection } from '../postgres/connect.pg.ts';
import type { ClusterNode } from './found.pg.ts';

/** How long the database may take to be found itself after its start before that is a trouble worth telling. */
const confirmedWithinMs = 10_000;
const confirmedPollMs = 50;
const connectTimeoutMs = 2000;
const answerWithinMs = 10_000;

type Named = Pick<ClusterNode, 'name' | 'number'>;

/** Asks before anything is begun that would only be refused. Throws as `requireConfirmedOn`. */
export async function requireConfirmed(node: ClusterNode, signal?: AbortSignal): Promise<void> {
  await withConnection(
    node.address,
    { application: 'pgquorum identity', connectTimeoutMs, answerWithinMs },
    (client) => requireConfirmedOn(client, node, signal),
  );
}

/** Throws `not_ready` unless the node is under the number that the caller knows, and has been found to be itself since its server was started. */
export async function requireConfirmedOn(
  client: pg.Client,
  node: Named,
  signal?: AbortSignal,
): Promise<void> {
  const deadline = performance.now() + confirmedWithinMs;
  for (;;) {
    const { confirmed, problem } = await confirmationOf(client, node);
    if (confirmed) return;
    if (problem !== null || performance.now() > deadline || signal?.aborted === true)
      throw new PgquorumError(
        'not_ready',
        `node ${node.name}: ${problem ?? 'its server was started, and it is not confirmed yet that it is the database that others remember'}`,
      );
    await sleep(confirmedPollMs, undefined, { signal }).catch(() => undefined); // the loop sees the abort
  }
}

/** Of `n`, the row of pgquorum.node: has the database been found to be itself since its server was started? */
export const confirmedSql = 'coalesce(n.started = pg_postmaster_start_time(), false)';

async function confirmationOf(
  client: pg.Client,
  node: Named,
): Promise<{ confirmed: boolean; problem: string | null }> {
  const { rows } = await client.query<{ number: number; confirmed: boolean; problem: string | null }>(
    `select n.number, ${confirmedSql} as confirmed, n.identity_problem as problem from pgquorum.node n`,
  );
  const number = rows[0]?.number ?? 'none';
  if (number === (node.number as number)) return rows[0]!;
  throw new PgquorumError('not_ready', `node ${node.name} has the number ${number} now, not ${node.number}`);
}
