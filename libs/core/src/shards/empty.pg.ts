/** Before a node goes: what it still has of shards that others hold is asked about and taken away there. What is left was not seen by some replica. */
import { setTimeout as sleep } from 'node:timers/promises';
import type pg from 'pg';
import { listCollections } from '../collections/catalog.pg.ts';
import { PgquorumError } from '../errors/error.ts';
import { closeClient, connect } from '../postgres/connect.pg.ts';
import type { ClusterNode } from '../topology/found.pg.ts';
import { newestMaps } from './change.pg.ts';
import { cleanShard, shardsToClean } from './cleaner.pg.ts';
import { adoptEntries } from './map.pg.ts';

const withinMs = 30_000;
const everyMs = 200;

/** Throws `not_ready` when something is left. The node is closed to writes. */
export async function emptyNode(
  node: ClusterNode,
  others: readonly ClusterNode[],
  signal: AbortSignal,
): Promise<void> {
  const clients = new Map<string, pg.Client>();
  try {
    for (const { name, address } of [node, ...others])
      clients.set(name, await connect(address, { application: 'pgquorum shards', answerWithinMs: 60_000 }));
    const client = clients.get(node.name)!;
    const maps = await newestMaps([node, ...others]);
    await adoptEntries(client, node.name, [...maps.values()].flat());
    const until = performance.now() + withinMs;
    for (;;) {
      const left = await cleanOnce(client, clients);
      if (left.length === 0) return;
      if (performance.now() > until)
        throw new PgquorumError(
          'not_ready',
          `not all replicas have what ${node.name} has of ${[...new Set(left)].join(', ')}`,
        );
      await sleep(everyMs, undefined, { signal });
    }
  } finally {
    await Promise.all([...clients.values()].map(closeClient));
  }
}

/** Names of collections of which something is left. */
async function cleanOnce(client: pg.Client, clients: ReadonlyMap<string, pg.Client>): Promise<string[]> {
  const left: string[] = [];
  for (const { name, table, map } of await listCollections(client)) {
    if (map === undefined) continue;
    for (const shard of await shardsToClean(client, table)) {
      const entry = map.find((one) => one.shard === shard);
      const holder = (holding: string) => Promise.resolve(clients.get(holding) ?? null);
      if (entry === undefined || !(await cleanShard({ client, table, entry, holder })).empty) left.push(name);
    }
  }
  return left;
}
