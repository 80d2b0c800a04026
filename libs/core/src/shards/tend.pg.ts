/**
 * What a node does about the shard map all the time: takes newer entries from its peers, cleans what it does not hold, and is filled with what it is said to hold and never
 * was filled with. Of several processes one does it.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type pg from 'pg';
import { listCollections, type CollectionRow } from '../collections/catalog.pg.ts';
import type { Logger } from '../observability/logger.process.ts';
import { closeClient, connect } from '../postgres/connect.pg.ts';
import { isUnreachable } from '../postgres/sqlstate.ts';
import { SessionLease } from '../postgres/session-lease.pg.ts';
import type { ClusterNode } from '../topology/found.pg.ts';
import { cleanShard, shardsToClean } from './cleaner.pg.ts';
import type { ShardEntry } from './entry.ts';
import { copyLeftovers, copyShard, verifyShard } from './fill.pg.ts';
import { adoptEntries, readMaps, shardConnection } from './map.pg.ts';

export interface TendOptions {
  readonly cluster: string;
  readonly node: ClusterNode;
  /** All members. */
  readonly nodes: readonly ClusterNode[];
  readonly keysPerSecond: number;
  readonly logger: Logger;
  readonly onHealthy?: () => void;
  readonly onCleaned?: (collection: string, keys: number) => void;
}

const everyMs = 500;
/** Peers are asked for their maps so often. */
const adoptEveryMs = 2000;

/** Runs until the signal aborts or something breaks. */
export async function runTender(options: TendOptions, signal: AbortSignal): Promise<void> {
  const { address } = options.node;
  // Waiting for the lease is well too: somebody else tends.
  options.onHealthy?.();
  const lease = await SessionLease.take(address, 'shards', signal);
  await lease?.connected(address, { application: 'pgquorum shards', answerWithinMs: 60_000 }, (client) =>
    tend(options, { client, lease }, signal),
  );
}

async function tend(
  options: TendOptions,
  { client, lease }: { readonly client: pg.Client; readonly lease: SessionLease },
  signal: AbortSignal,
): Promise<void> {
  const peers = new Peers(options.nodes);
  let adoptedAt = -Infinity;
  try {
    while (!signal.aborted) {
      await lease.check();
      const mapped = (await listCollections(client)).filter(({ map }) => map !== undefined);
      if (mapped.length > 0 && performance.now() - adoptedAt > adoptEveryMs) {
        await adoptFromPeers(options, client, peers);
        adoptedAt = performance.now();
      }
      for (const collection of mapped) {
        await clean(options, { client, peers, collection });
        await refill(options, client, collection, signal);
      }
      await sleep(everyMs, undefined, { signal }).catch(() => undefined); // the loop's condition sees the abort
    }
  } finally {
    await peers.close();
  }
}

/** Connections that are made when they are needed and made again when they were lost. */
class Peers {
  readonly #nodes: readonly ClusterNode[];
  readonly #clients = new Map<string, pg.Client>();

  constructor(nodes: readonly ClusterNode[]) {
    this.#nodes = nodes;
  }

  /** Null when the node is not known here, or can not be reached now. */
  async get(name: string): Promise<pg.Client | null> {
    const known = this.#clients.get(name);
    if (known !== undefined) return known;
    const node = this.#nodes.find((one) => one.name === name);
    if (node === undefined) return null;
    try {
      const client = await connect(node.address, { ...shardConnection, connectTimeoutMs: 2000 });
      this.#clients.set(name, client);
      return client;
    } catch (cause) {
      if (isUnreachable(cause)) return null;
      throw cause;
    }
  }

  /** After an error: whichever connection it was, all are made again. */
  async close(): Promise<void> {
    const clients = [...this.#clients.values()];
    this.#clients.clear();
    await Promise.all(clients.map(closeClient));
  }
}

async function adoptFromPeers(
  { node, nodes, logger }: TendOptions,
  client: pg.Client,
  peers: Peers,
): Promise<void> {
  for (const peer of nodes) {
    if (peer.number === node.number) continue;
    const other = await peers.get(peer.name);
    if (other === null) continue;
    try {
      const taken = await adoptEntries(client, node.name, await readMaps(other));
      if (taken.length > 0)
        logger.info({ from: peer.name, entries: taken.length }, 'took newer entries of the shard map');
    } catch (cause) {
      if (!isUnreachable(cause)) throw cause;
      await peers.close();
    }
  }
}

async function clean(
  { onCleaned, logger }: TendOptions,
  place: { readonly client: pg.Client; readonly peers: Peers; readonly collection: CollectionRow },
): Promise<void> {
  const { client, peers, collection } = place;
  for (const shard of await shardsToClean(client, collection.table)) {
    const entry = collection.map!.find((one) => one.shard === shard);
    if (entry === undefined) continue;
    try {
      const { cleaned, empty } = await cleanShard({
        client,
        table: collection.table,
        entry,
        holder: (name) => peers.get(name),
      });
      if (cleaned > 0) onCleaned?.(collection.name, cleaned);
      if (empty)
        logger.debug({ collection: collection.name, shard }, 'a shard that is held elsewhere is cleaned');
    } catch (cause) {
      if (!isUnreachable(cause)) throw cause;
      await peers.close();
    }
  }
}

/** Shards that the map says are held here, and that nobody is moving here. */
async function refill(
  options: TendOptions,
  client: pg.Client,
  { name, map }: CollectionRow,
  signal: AbortSignal,
): Promise<void> {
  const { rows } = await client.query<{ shard: number }>(
    `select shard from pgquorum.shard_role where collection = $1 and role = 'joining' order by shard`,
    [name],
  );
  for (const { shard } of rows) {
    const entry = map!.find((one) => one.shard === shard);
    if (entry === undefined || entry.next !== null || !entry.replicas.includes(options.node.name)) continue;
    await refillShard(options, client, entry, signal);
  }
}

async function refillShard(
  { cluster, node, nodes, keysPerSecond, logger }: TendOptions,
  client: pg.Client,
  entry: ShardEntry,
  signal: AbortSignal,
): Promise<void> {
  const place = { collection: entry.collection, shard: entry.shard };
  const sources = nodes.filter((one) => one.name !== node.name && entry.replicas.includes(one.name));
  logger.info(place, 'a shard that this node is to hold is filled');
  const { epoch } = entry;
  const filling = { cluster, place, epoch, target: node, sources, nodes, keysPerSecond, logger, signal };
  if (sources.length === 0) await copyLeftovers(filling);
  else {
    await copyShard(filling, null, () => Promise.resolve());
    await verifyShard(filling);
  }
  await client.query(
    `update pgquorum.shard_role set role = 'replica' where collection = $1 and shard = $2 and role = 'joining' and epoch = $3`,
    [entry.collection, entry.shard, entry.epoch],
  );
}
