/**
 * Takes away what a node has of a shard that it does not hold: a shard that was moved away, and what SQL clients wrote there.
 *
 * A state goes only when every replica of the shard's entry, old and next, has seen all that was seen here, and calls itself a replica (or joining) under the very epoch
 * that this node knows: a majority would do for durability, but not for who reads the state from here later (a part of the log that has to be read again), and finds
 * nothing. A replica that can not be asked leaves everything where it is, which harms nobody: no gateway reads it.
 *
 * Row, then version, as users' statements lock them, and only while the state is the one that was asked about. No tombstone is made, and nothing of it is published.
 * A key that is written here again begins anew: its dots go on from the node's sequence, so none is used twice.
 */
import type pg from 'pg';
import { waitFlushed } from '../capture/reread.pg.ts';
import type { CollectionTable } from '../collections/definition.ts';
import { versionTable } from '../collections/trigger.ts';
import { failpoint } from '../faults/failpoint.process.ts';
import { quoteName, quoteTable } from '../postgres/identifier.ts';
import { sqlStateOf } from '../postgres/sqlstate.ts';
import { transactionBegunBy } from '../postgres/transaction.pg.ts';
import { includes, type Clock } from '../versioning/clock.ts';
import { holdersOf, type ShardEntry, type ShardRole } from './entry.ts';

export interface CleanOptions {
  readonly client: pg.Client;
  readonly table: CollectionTable;
  /** As this node knows it. */
  readonly entry: ShardEntry;
  /** A connection to each of the entry's holders, by name; null where it can not be asked. */
  readonly holder: (name: string) => Promise<pg.Client | null>;
  readonly limit?: number;
}

interface Here {
  readonly key: readonly string[];
  readonly origin: number;
  readonly counter: string;
  readonly seen: Clock;
  readonly seenText: string;
}

const limitDefault = 500;
const lockTimeoutMs = 300;

/** How many keys went, and whether nothing is left. */
export async function cleanShard(options: CleanOptions): Promise<{ cleaned: number; empty: boolean }> {
  const { table, entry, client } = options;
  const limit = options.limit ?? limitDefault;
  let cleaned = 0;
  for (let after: readonly string[] | null = null; ;) {
    const page = await readPage(client, { table, shard: entry.shard, after, limit });
    if (page.length === 0) break;
    const covered = await coveredBy(options, page);
    if (covered === null) return { cleaned, empty: false };
    if (covered.length > 0) {
      cleaned += await remove(options, covered);
      failpoint('shard-keys-cleaned');
    }
    if (page.length < limit) break;
    after = page.at(-1)!.key;
  }
  return { cleaned, empty: await finish(options) };
}

const keyList = (table: CollectionTable, of: (name: string, at: number) => string): string =>
  table.key.map(({ name }, at) => of(quoteName(name), at)).join(', ');
const keyArrays = (
  table: CollectionTable,
  keys: readonly { readonly key: readonly string[] }[],
): string[][] => table.key.map((_, at) => keys.map(({ key }) => key[at]!));
const wanted = (table: CollectionTable): string =>
  `unnest(${table.key.map((_, at) => `$${at + 1}::text[]`).join(', ')}`;
const match = (table: CollectionTable, alias: string): string =>
  table.key.map(({ name, type }, at) => `${alias}.${quoteName(name)} = u.k${at}::${type}`).join(' and ');

async function readPage(
  client: pg.Client,
  page: {
    readonly table: CollectionTable;
    readonly shard: number;
    readonly after: readonly string[] | null;
    readonly limit: number;
  },
): Promise<Here[]> {
  const { table, shard, after, limit } = page;
  const keys = keyList(table, (name) => `v.${name}`);
  const behind =
    after === null
      ? ''
      : ` and (${keys}) > (${table.key.map(({ type }, at) => `$${at + 3}::text::${type}`).join(', ')})`;
  const { rows } = await client.query<unknown[]>({
    text: `select ${keyList(table, (name) => `v.${name}::text`)}, v.origin, v.counter::text, coalesce(v.seen, v.clock)::text from ${versionTable(table)} v where v.shard = $1${behind} order by ${keys} limit $2`,
    values: [shard, limit, ...(after ?? [])],
    rowMode: 'array',
  });
  return rows.map((row) => {
    const [origin, counter, seenText] = row.slice(-3) as [number, string, string];
    return {
      key: row.slice(0, -3) as string[],
      origin,
      counter,
      seenText,
      seen: JSON.parse(seenText) as Clock,
    };
  });
}

/** Those that all holders have; null when one of them can not tell, or knows another map. */
async function coveredBy(options: CleanOptions, page: readonly Here[]): Promise<Here[] | null> {
  const { table, entry } = options;
  let covered = [...page];
  for (const name of holdersOf(entry)) {
    const holder = await options.holder(name);
    if (holder === null) return null;
    const { rows } = await holder.query<{ role: ShardRole; epoch: string }>(
      'select role, epoch::text as epoch from pgquorum.shard_role where collection = $1 and shard = $2',
      [entry.collection, entry.shard],
    );
    const role = rows[0]?.role;
    if (Number(rows[0]?.epoch) !== entry.epoch || (role !== 'replica' && role !== 'joining')) return null;
    const seen = await holder.query<{ place: number; seen: Clock }>(
      `select u.place::int as place, coalesce(v.seen, v.clock) as seen from ${wanted(table)}) with ordinality u(${table.key.map((_, at) => `k${at}`).join(', ')}, place) join ${versionTable(table)} v on ${match(table, 'v')}`,
      keyArrays(table, covered),
    );
    await waitFlushed(holder);
    const has = new Map(seen.rows.map((row) => [row.place - 1, row.seen]));
    covered = covered.filter((one, at) => includes(has.get(at) ?? {}, one.seen));
    if (covered.length === 0) return [];
  }
  return covered;
}

/** In the transaction that takes something away. False when the shard is this node's again. */
async function holdsNothing(
  client: pg.Client,
  entry: ShardEntry,
  lock: 'share' | 'update',
): Promise<boolean> {
  const { rows } = await client.query<{ role: ShardRole; epoch: string }>(
    `select role, epoch::text as epoch from pgquorum.shard_role where collection = $1 and shard = $2 for ${lock}`,
    [entry.collection, entry.shard],
  );
  const role = rows[0]?.role;
  return Number(rows[0]?.epoch) === entry.epoch && (role === 'leaving' || role === 'none');
}

const begin = `begin isolation level read committed; set local pgquorum.apply = 'on'; set local lock_timeout = ${lockTimeoutMs}`;

/** Does `work` in a transaction that gives way: 0 or false when somebody had something locked. */
async function givingWay<T>(client: pg.Client, otherwise: T, work: () => Promise<T>): Promise<T> {
  try {
    return await transactionBegunBy(client, begin, work);
  } catch (cause) {
    if (['55P03', '40P01', '40001'].includes(sqlStateOf(cause) ?? '')) return otherwise;
    throw cause;
  }
}

async function remove({ client, table, entry }: CleanOptions, keys: readonly Here[]): Promise<number> {
  const rows = quoteTable({ schema: table.schema, name: table.table });
  const names = table.key.map((_, at) => `k${at}`).join(', ');
  const arrays = keyArrays(table, keys);
  return givingWay(client, 0, async () => {
    if (!(await holdsNothing(client, entry, 'share'))) return 0;
    await client.query(
      `select from ${rows} t join ${wanted(table)}) u(${names}) on ${match(table, 't')} order by ${keyList(table, (name) => `t.${name}`)} for update of t`,
      arrays,
    );
    const width = table.key.length;
    const locked = await client.query<unknown[]>({
      text: `select ${keyList(table, (name) => `v.${name}::text`)}, v.origin, v.counter::text, coalesce(v.seen, v.clock)::text from ${versionTable(table)} v join ${wanted(table)}) u(${names}) on ${match(table, 'v')} order by ${keyList(table, (name) => `v.${name}`)} for update of v`,
      values: arrays,
      rowMode: 'array',
    });
    // As the locks found them: what was written in between is asked about the next time.
    const same = new Set(locked.rows.map((row) => JSON.stringify(row)));
    const still = keys.filter(({ key, origin, counter, seenText }) =>
      same.has(JSON.stringify([...key, origin, counter, seenText])),
    );
    if (still.length === 0) return 0;
    const values = keyArrays(table, still);
    const from = `using ${wanted(table)}) u(${names}) where`;
    await client.query(`delete from ${rows} t ${from} ${match(table, 't')}`, values);
    const gone = await client.query(
      `delete from ${versionTable(table)} v ${from} ${match(table, 'v')}`,
      values,
    );
    await client.query(
      `delete from pgquorum.conflict c where c.collection = $${width + 1} and c.key in (select ${width === 1 ? 'u.k0' : `pgquorum.key_text(${names})`} from ${wanted(table)}) u(${names}))`,
      [...values, entry.collection],
    );
    return gone.rowCount ?? 0;
  });
}

/**
 * Once all that is here was asked about it is done with leaving, though users may go on writing here: that is cleaned away as on any node that does not hold the shard.
 * Tells whether nothing is left.
 */
async function finish({ client, table, entry }: CleanOptions): Promise<boolean> {
  return givingWay(client, false, async () => {
    if (!(await holdsNothing(client, entry, 'update'))) return false;
    await client.query(
      `update pgquorum.shard_role set role = 'none' where collection = $1 and shard = $2 and role = 'leaving'`,
      [entry.collection, entry.shard],
    );
    const left = await client.query(`select from ${versionTable(table)} v where v.shard = $1 limit 1`, [
      entry.shard,
    ]);
    if (left.rows.length > 0) return false;
    // Of keys without a version: the replicas have them too, or will by their own logs.
    await client.query(`delete from pgquorum.conflict c where c.collection = $1 and c.shard = $2`, [
      entry.collection,
      entry.shard,
    ]);
    return true;
  });
}

/** Shards that this node does not hold and has something of, or is to be done with. */
export async function shardsToClean(client: pg.Client, table: CollectionTable): Promise<number[]> {
  const { rows } = await client.query<{ shard: number }>(
    `select r.shard from pgquorum.shard_role r where r.collection = $1 and (r.role = 'leaving' or r.role = 'none' and exists (select from ${versionTable(table)} v where v.shard = r.shard)) order by r.shard`,
    [table.collection],
  );
  return rows.map((row) => row.shard);
}
