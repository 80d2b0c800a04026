/**
 * A node that was removed answers again, at an address that a process still has in its list: one that was declared lost is back. It is told so. It takes no writes of users
 * from then on, since nobody would carry them, and processes that reach only it learn that it is no member. A node that left has no schema, and is left alone.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type { NodeAddress } from '../config/settings.ts';
import { isPgquorumError } from '../errors/error.ts';
import type { Logger } from '../observability/logger.process.ts';
import { withConnection } from '../postgres/connect.pg.ts';
import { isConnectionError } from '../postgres/sqlstate.ts';
import { closeNode } from './close.pg.ts';

const lookEveryMs = 5000;
const connection = { application: 'pgquorum membership', connectTimeoutMs: 2000, answerWithinMs: 10_000 };
const problem = 'it was declared lost, and removed from the cluster: the others go on without it';

/** Runs until the signal aborts, or something breaks that is not a lost connection. */
export async function watchReturned(
  nodes: readonly NodeAddress[],
  { logger, cluster, onHealthy }: { logger: Logger; cluster: string; onHealthy: () => void },
  signal: AbortSignal,
): Promise<void> {
  const told = new Set<string>();
  while (!signal.aborted) {
    for (const node of nodes)
      if (!told.has(node.name) && (await tellReturned(node, cluster))) {
        told.add(node.name);
        logger.error(
          { node: node.name },
          'a node that was declared lost is back: it is not let in, and takes no more writes (docs/operating.md)',
        );
      }
    onHealthy();
    await sleep(lookEveryMs, undefined, { signal }).catch(() => undefined); // the loop's condition sees the abort
  }
}

/** False when it is not there, or is not a node of the cluster any more. */
async function tellReturned(node: NodeAddress, cluster: string): Promise<boolean> {
  try {
    return await withConnection(node, connection, async (client) => {
      const { rows } = await client.query<{ can: boolean }>(
        `select to_regclass('pgquorum.node') is not null and to_regproc('pgquorum.refuse_write') is not null as can`,
      );
      if (!rows[0]!.can) return false;
      const found = await client.query(
        'update pgquorum.node set identity_problem = $3, started = null where name = $1 and cluster = $2',
        [node.name, cluster, problem],
      );
      if (found.rowCount === 0) return false;
      await closeNode(client, node.name, problem);
      await client.query('update pgquorum.member set retired = true where name = $1', [node.name]);
      return true;
    });
  } catch (cause) {
    if (isConnectionError(cause)) return false;
    if (isPgquorumError(cause) && cause.entry.retry) return false; // unreachable, or in use: looked at again
    throw cause;
  }
}
