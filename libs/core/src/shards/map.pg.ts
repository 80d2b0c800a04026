/** A node's copy of the shard map, and its own part in it. */
import type pg from 'pg';
import type { NodeAddress } from '../config/settings.ts';
import { closeClient, connect } from '../postgres/connect.pg.ts';
import { isConnectionError } from '../postgres/sqlstate.ts';
import { transactionBegunBy } from '../postgres/transaction.pg.ts';
import type { ShardNumber } from '../versioning/version.ts';
import { roleAfter, type ShardEntry, type ShardMap, type ShardRole } from './entry.ts';

type Client = Pick<pg.ClientBase, 'query'>;

interface EntryRow {
  readonly collection: string;
  readonly shard: number;
  readonly epoch: string;
  readonly replicas: string[];
  readonly next: string[] | null;
}

/** How a node is asked about its shards. */
export const shardConnection = {
  application: 'pgquorum shards',
  connectTimeoutMs: 10_000,
  answerWithinMs: 30_000,
};

const entryOf = (row: EntryRow): ShardEntry => ({
  ...row,
  shard: row.shard as ShardNumber,
  epoch: Number(row.epoch),
});

const entriesSql =
  'select m.collection, m.shard, m.epoch::text as epoch, m.replicas, m.next from pgquorum.shard_map m';

/** Empty for a collection that every node holds in full. */
export async function readMap(client: Client, collection: string): Promise<ShardMap> {
  const { rows } = await client.query<EntryRow>(`${entriesSql} where m.collection = $1 order by m.shard`, [
    collection,
  ]);
  return rows.map(entryOf);
}

/** Of all collections. */
export async function readMaps(client: Client): Promise<ShardMap> {
  return (await client.query<EntryRow>(`${entriesSql} order by m.collection, m.shard`)).rows.map(entryOf);
}

/** The entry and the role here, locked until the end of the transaction. Null when the collection is not here. */
export async function lockEntry(
  client: Client,
  place: { readonly collection: string; readonly shard: number },
): Promise<{ entry: ShardEntry; role: ShardRole } | null> {
  const values = [place.collection, place.shard];
  const role = await client.query<{ role: ShardRole }>(
    'select role from pgquorum.shard_role where collection = $1 and shard = $2 for update',
    values,
  );
  const { rows } = await client.query<EntryRow>(
    `${entriesSql} where m.collection = $1 and m.shard = $2 for update`,
    values,
  );
  if (role.rows[0] === undefined || rows[0] === undefined) return null;
  return { entry: entryOf(rows[0]), role: role.rows[0].role };
}

/** In the caller's transaction: the entry with the role that this node has under it. */
export async function putEntry(client: Client, entry: ShardEntry, role: ShardRole): Promise<void> {
  const { collection, shard, epoch, replicas, next } = entry;
  await client.query(
    `insert into pgquorum.shard_map (collection, shard, epoch, replicas, next) values ($1, $2, $3, $4, $5)
     on conflict (collection, shard) do update set epoch = excluded.epoch, replicas = excluded.replicas, next = excluded.next`,
    [collection, shard, epoch, replicas, next],
  );
  await client.query(
    'update pgquorum.shard_role set role = $3, epoch = $4 where collection = $1 and shard = $2',
    [collection, shard, role, epoch],
  );
}

/** In the transaction that makes the collection: what holds nothing is complete, so replicas are ones at once. */
export async function putMap(client: Client, me: string, map: ShardMap): Promise<void> {
  for (const entry of map) await putEntry(client, entry, entry.replicas.includes(me) ? 'replica' : 'none');
}

const begin = `begin isolation level read committed; set local lock_timeout = '5s'`;

/** Takes those entries that are newer than what is here. Each in a transaction of its own: writers hold roles. Gives those that were taken. */
export async function adoptEntries(client: Client, me: string, entries: ShardMap): Promise<ShardEntry[]> {
  const known = new Map((await readMaps(client)).map((entry) => [placeOf(entry), entry.epoch]));
  const taken: ShardEntry[] = [];
  for (const entry of entries) {
    if ((known.get(placeOf(entry)) ?? Infinity) >= entry.epoch) continue;
    await transactionBegunBy(client, begin, async () => {
      const here = await lockEntry(client, entry);
      if (here !== null && here.entry.epoch < entry.epoch) {
        await putEntry(client, entry, roleAfter(me, here.role, entry));
        taken.push(entry);
      }
    });
  }
  return taken;
}

/** Before anything of a peer is applied here: a node that was away may have another part by now. A peer that can not be asked tells nothing. */
export async function adoptFrom(
  client: Client,
  { me, peer }: { readonly me: string; readonly peer: NodeAddress },
): Promise<void> {
  let other: pg.Client | null = null;
  try {
    other = await connect(peer, shardConnection);
    await adoptEntries(client, me, await readMaps(other));
  } catch (cause) {
    if (other !== null && !isConnectionError(cause)) throw cause;
  } finally {
    if (other !== null) await closeClient(other);
  }
}

const placeOf = ({ collection, shard }: ShardEntry): string => `${collection} ${shard}`;
