/**
 * Changes one entry of the shard map on every node that can be reached, by compare-and-set against its epoch.
 *
 * Needed are a majority of the members, the proposer's own node, and those that the caller names. Changes of all shards are locked in the order of the nodes' numbers, so
 * two wait for each other instead of deadlocking, and that holds up nobody else; then the roles are locked, which writers hold for share, the epochs are compared, and only
 * then is anything written.
 *
 * The proposer's node commits first. Its next proposal is made from what it has, so no two of its proposals, which have its number in their epochs, have the same epoch,
 * however many nodes the first one reached. Then the node that was filled, so that it calls itself a replica when others do: if a crash keeps it from that, it takes the
 * entry as one that was never filled, and fills itself anew. A crash between two nodes' commits leaves the newer entry on some: the others take it from them (tend.pg.ts).
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type pg from 'pg';
import { isPgquorumError, PgquorumError } from '../errors/error.ts';
import { closeClient, connect, withConnection } from '../postgres/connect.pg.ts';
import { sqlStateOf } from '../postgres/sqlstate.ts';
import type { ClusterNode } from '../topology/found.pg.ts';
import type { NodeNumber, ShardNumber } from '../versioning/version.ts';
import { newest, nextEpoch, roleAfter, type ShardEntry, type ShardMap, type ShardRole } from './entry.ts';
import { lockEntry, putEntry, readMaps, shardConnection } from './map.pg.ts';

export interface ShardPlace {
  readonly collection: string;
  readonly shard: ShardNumber;
}

export interface ChangeEntryOptions {
  /** All members. */
  readonly nodes: readonly ClusterNode[];
  readonly place: ShardPlace;
  /** The entry that the change was made from. */
  readonly from: ShardEntry;
  readonly to: Pick<ShardEntry, 'replicas' | 'next'>;
  readonly proposer: NodeNumber;
  /** Names of nodes without which it is not done. */
  readonly needed: readonly string[];
  /** A node that was filled and verified under `from`: it becomes a replica. */
  readonly filled?: string;
}

/** Other changes are waited for so long: they hold up nobody but each other. */
const turnWithinMs = 60_000;
/** Writers, who wait behind this. */
const lockTimeoutMs = 5000;
const triesMax = 5;
const topologyLockSql = `select pg_advisory_xact_lock(hashtextextended('pgquorum topology', 7308895))`;

interface Opened {
  readonly node: ClusterNode;
  readonly client: pg.Client;
}

/** The new entry. Throws `stale_shard_map` when the entry is another one by now, `replicas_unavailable` when too few nodes can be reached. */
export async function changeEntry(options: ChangeEntryOptions): Promise<ShardEntry> {
  for (let tries = 1; ; tries += 1) {
    try {
      return await tryChange(options);
    } catch (cause) {
      if (!isPgquorumError(cause) || cause.code !== 'overloaded' || tries === triesMax) throw cause;
      // The writers that were in the way are let through.
      await sleep(tries * 200);
    }
  }
}

async function tryChange(options: ChangeEntryOptions): Promise<ShardEntry> {
  const opened = await openAll(options);
  try {
    const here = await lockAll(opened, options);
    const now = newest([here.map(({ entry }) => entry)])[0]!;
    if (now.epoch !== options.from.epoch)
      throw new PgquorumError(
        'stale_shard_map',
        `shard ${now.shard} of ${now.collection} was changed meanwhile`,
      );
    const entry: ShardEntry = {
      ...now,
      ...options.to,
      epoch: nextEpoch(now.epoch, options.proposer),
    };
    await each(here, (one) => putEntry(one.client, entry, roleOf(one, entry, options)));
    const place = ({ node }: Here): number =>
      node.number === options.proposer ? 0 : node.name === options.filled ? 1 : 2;
    const [own, filled, others] = [0, 1, 2].map((at) => here.filter((one) => place(one) === at));
    for (const group of [own!, filled!, others!]) await each(group, ({ client }) => client.query('commit'));
    return entry;
  } finally {
    // What is still open is rolled back with its connection.
    await Promise.all(opened.map(({ client }) => closeClient(client)));
  }
}

/** On all at once. None is left at it when this fails. */
async function each<T, R>(all: readonly T[], work: (one: T) => Promise<R>): Promise<R[]> {
  const done = await Promise.allSettled(all.map(work));
  return done.map((one) => {
    if (one.status === 'rejected') throw one.reason;
    return one.value;
  });
}

async function openAll({ nodes, needed, proposer }: ChangeEntryOptions): Promise<Opened[]> {
  const inOrder = nodes.toSorted((a, b) => a.number - b.number);
  const tried = await Promise.allSettled(
    inOrder.map((node) => connect(node.address, { ...shardConnection, answerWithinMs: turnWithinMs * 2 })),
  );
  const opened = tried.flatMap((one, at) =>
    one.status === 'fulfilled' ? [{ node: inOrder[at]!, client: one.value }] : [],
  );
  const own = nodes.flatMap(({ name, number }) => (number === proposer ? [name] : []));
  const missing = [...own, ...needed].filter((name) => !opened.some(({ node }) => node.name === name));
  if (own.length === 1 && missing.length === 0 && opened.length * 2 > nodes.length) return opened;
  await Promise.all(opened.map(({ client }) => closeClient(client)));
  throw new PgquorumError(
    'replicas_unavailable',
    own.length === 0
      ? 'the node that proposes is no member'
      : missing.length > 0
        ? `${missing.join(', ')} can not be reached: the shard map is changed with them`
        : `only ${opened.length} of ${nodes.length} nodes can be reached: the shard map is changed by a majority`,
  );
}

type Here = Opened & { readonly entry: ShardEntry; readonly role: ShardRole };

async function lockAll(opened: readonly Opened[], { place }: ChangeEntryOptions): Promise<Here[]> {
  try {
    for (const { client } of opened)
      await client.query(
        `begin isolation level read committed; set local lock_timeout = ${turnWithinMs}; ${topologyLockSql}; set local lock_timeout = ${lockTimeoutMs}`,
      );
    return await each(opened, async ({ node, client }) => {
      const found = await lockEntry(client, place);
      if (found === null)
        throw new PgquorumError(
          'collection_not_found',
          `collection ${place.collection} has no shard map on ${node.name}`,
        );
      return { node, client, ...found };
    });
  } catch (cause) {
    if (sqlStateOf(cause) !== '55P03') throw cause;
    throw new PgquorumError(
      'overloaded',
      `shard ${place.shard} of ${place.collection} is written or changed for long`,
      { cause },
    );
  }
}

function roleOf(
  { node, entry, role }: Here,
  to: ShardEntry,
  { from, filled }: ChangeEntryOptions,
): ShardRole {
  if (node.name !== filled) return roleAfter(node.name, role, to);
  if (role !== 'joining' || entry.epoch !== from.epoch)
    throw new PgquorumError(
      'stale_shard_map',
      `${node.name} is ${role} of the shard, and was not filled as it is`,
    );
  return 'replica';
}

/** By collection, of each shard the newest entry that any node which can be reached has: a majority has to be. */
export async function newestMaps(nodes: readonly ClusterNode[]): Promise<Map<string, ShardMap>> {
  const asked = await Promise.allSettled(
    nodes.map((node) => withConnection(node.address, shardConnection, readMaps)),
  );
  const maps = asked.flatMap((one) => (one.status === 'fulfilled' ? [one.value] : []));
  if (maps.length * 2 <= nodes.length)
    throw new PgquorumError(
      'replicas_unavailable',
      `only ${maps.length} of ${nodes.length} nodes can be reached`,
    );
  const groups = Map.groupBy(maps.flat(), ({ collection }) => collection);
  return new Map([...groups].map(([collection, entries]) => [collection, newest([entries])]));
}

export async function newestEntry(
  nodes: readonly ClusterNode[],
  { collection, shard }: ShardPlace,
): Promise<ShardEntry> {
  const entry = (await newestMaps(nodes)).get(collection)?.find((one) => one.shard === shard);
  if (entry === undefined)
    throw new PgquorumError(
      'collection_not_found',
      `collection ${collection} has no shard map with shard ${shard}`,
    );
  return entry;
}
