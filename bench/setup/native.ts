/** The baseline: Postgres's own logical replication between the same two masters, in binary, one table. */
import { setTimeout as delay } from 'node:timers/promises';
import type { CollectionDefinition } from '#core/collections/definition.ts';
import { withClient } from '#core/embedded/database.pg.ts';
import { makePlainTable, type Pair } from './masters.ts';

export interface NativeReplication extends AsyncDisposable {
  /** Until now everything waits in the slot. */
  enable(): Promise<void>;
}

export async function replicateNatively(
  pair: Pair,
  table: string,
  index: CollectionDefinition['index'],
): Promise<NativeReplication> {
  const { origin, peer, atOrigin, atPeer } = pair;
  await makePlainTable(atOrigin, table, index);
  await makePlainTable(atPeer, table, index);
  await withClient(origin.superUrl, (client) =>
    client.query(`create publication native_${table} for table public.${table}`),
  );
  await withClient(peer.superUrl, (client) =>
    client.query(
      `create subscription native_${table} connection ${client.escapeLiteral(origin.superUrl)} publication native_${table}
       with (binary = true, origin = none, copy_data = false, enabled = false)`,
    ),
  );
  return {
    enable: async () => {
      await withClient(peer.superUrl, (client) => client.query(`alter subscription native_${table} enable`));
    },
    [Symbol.asyncDispose]: async () => {
      await withClient(peer.superUrl, async (client) => {
        await client.query(`alter subscription native_${table} disable`);
        await dropWhenIdle(() => client.query(`drop subscription native_${table}`));
      });
      await withClient(origin.superUrl, (client) => client.query(`drop publication native_${table}`));
      await atOrigin.query(`drop table public.${table}`);
      await atPeer.query(`drop table public.${table}`);
    },
  };
}

/** The walsender of a worker that was told to end may hold the slot for another moment (55006). */
async function dropWhenIdle(drop: () => Promise<unknown>): Promise<void> {
  for (let tries = 0; ; tries += 1) {
    try {
      await drop();
      return;
    } catch (cause) {
      if ((cause as { code?: string }).code !== '55006' || tries === 50) throw cause;
      await delay(100);
    }
  }
}
