/** Writes this node's heartbeat row, so that its peers see a true lag while nobody writes. */
import { setTimeout as sleep } from 'node:timers/promises';
import type { NodeAddress } from '../config/settings.ts';
import { withConnection } from '../postgres/connect.pg.ts';

/** The heartbeat, how far the dots are now, and nothing older than an hour. */
const beatSql = `with beat as (
    update pgquorum.heartbeat h set at = clock_timestamp() from pgquorum.node n where h.number = n.number
  ), pulse as (
    insert into pgquorum.pulse (at, dot) select clock_timestamp(), d.last_value from pgquorum.dot d on conflict do nothing
  )
  delete from pgquorum.pulse where at < clock_timestamp() - interval '1 hour'`;

/** Runs until the signal aborts or the node is lost. */
export async function runHeartbeat(
  node: NodeAddress,
  { intervalMs, onBeat }: { readonly intervalMs: number; readonly onBeat?: () => void },
  signal: AbortSignal,
): Promise<void> {
  const answerWithinMs = Math.max(5000, 3 * intervalMs);
  await withConnection(node, { application: 'pgquorum heartbeat', answerWithinMs }, async (client) => {
    while (!signal.aborted) {
      await client.query(beatSql);
      onBeat?.();
      await sleep(intervalMs, undefined, { signal }).catch(() => undefined); // the loop's condition sees the abort
    }
  });
}
