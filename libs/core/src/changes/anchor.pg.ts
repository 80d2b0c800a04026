/**
 * The slot on an origin that keeps its changes for a while for those who follow them (change log: WAL). Nobody reads it: streams read temporary copies,
 * so any number of processes may, from any position that it still holds. It is made when the first stream asks and costs nothing before.
 *
 * Bounded: replicators move it on so that it keeps `keptBytes` of WAL, and drop it when no stream was open for `unusedMs`.
 */
import { randomBytes } from 'node:crypto';
import type pg from 'pg';
import { lsnFromText } from '../capture/lsn.ts';
import { PgquorumError } from '../errors/error.ts';
import { anchorSlot, publicationName } from '../topology/names.ts';
import type { NodeNumber } from '../versioning/version.ts';

type Client = Pick<pg.ClientBase, 'query'>;

export interface Anchor {
  readonly slot: string;
  readonly generation: string;
  readonly publication: number;
  /** Everything after it can be read. */
  readonly first: bigint;
  /** What is flushed now. */
  readonly end: bigint;
}

/** 64-bit key of the lock under which an anchor is made and dropped: "pgqanch" read as a number. */
const anchorLock = '31638934055183208';

/** Null when there is none that can be read: a slot made for a publication that was dropped meanwhile has skipped what came since. */
export async function readAnchor(client: Client): Promise<Anchor | null> {
  const { rows } = await client.query<{
    slot: string;
    generation: string;
    publication: string;
    first: string;
    end: string;
  }>(
    `select a.slot, a.generation, a.publication::text as publication, s.confirmed_flush_lsn::text as first, pg_current_wal_flush_lsn()::text as end
     from pgquorum.change_anchor a join pg_replication_slots s on s.slot_name = a.slot join pg_publication p on p.oid = a.publication and p.pubname = '${publicationName}'
     where s.database = current_database() and s.plugin = 'pgoutput' and s.wal_status <> 'lost' and s.confirmed_flush_lsn is not null`,
  );
  const row = rows[0];
  if (row === undefined) return null;
  const { slot, generation } = row;
  return {
    slot,
    generation,
    publication: Number(row.publication),
    first: lsnFromText(row.first),
    end: lsnFromText(row.end),
  };
}

/** The anchor, made anew when it is missing or lost. */
export async function ensureAnchor(
  client: Client,
  { cluster, number }: { readonly cluster: string; readonly number: NodeNumber },
): Promise<Anchor> {
  const found = await readAnchor(client);
  if (found !== null) return found;
  return locked(client, async () => {
    const meanwhile = await readAnchor(client);
    if (meanwhile !== null) return meanwhile;
    const slot = anchorSlot(cluster, number);
    await dropAnchor(client);
    await dropSlot(client, slot);
    await client.query(`select pg_create_logical_replication_slot($1, 'pgoutput')`, [slot]);
    await client.query(
      `insert into pgquorum.change_anchor (slot, generation, publication, used_at)
       select $1, $2, p.oid, clock_timestamp() from pg_publication p where p.pubname = $3`,
      [slot, randomBytes(6).toString('hex'), publicationName],
    );
    const made = await readAnchor(client);
    if (made === null)
      throw new PgquorumError('not_ready', `the slot ${slot} was made and is not there: try again`);
    return made;
  });
}

/** Says that streams are open. */
export async function touchAnchor(client: Client): Promise<void> {
  await client.query('update pgquorum.change_anchor set used_at = clock_timestamp()');
}

/** Moves the anchor on, or drops it when it is not used. */
export async function tendAnchor(
  client: Client,
  { keptBytes, unusedMs }: { readonly keptBytes: number; readonly unusedMs: number },
): Promise<'none' | 'kept' | 'moved' | 'dropped'> {
  const { rows } = await client.query<{ slot: string; unused: boolean; behind: boolean; target: string }>(
    `select a.slot, a.used_at < clock_timestamp() - $1 * interval '1 millisecond' as unused, s.confirmed_flush_lsn < e.target as behind, e.target::text as target
     from pgquorum.change_anchor a left join pg_replication_slots s on s.slot_name = a.slot and s.database = current_database() and s.wal_status <> 'lost',
       lateral (select case when pg_current_wal_flush_lsn() - '0/0'::pg_lsn > $2::numeric then pg_current_wal_flush_lsn() - $2::numeric else '0/1'::pg_lsn end as target) e`,
    [unusedMs, keptBytes],
  );
  const row = rows[0];
  if (row === undefined) return 'none';
  if (row.unused) {
    await locked(client, async () => {
      await dropAnchor(client);
      await dropSlot(client, row.slot);
    });
    return 'dropped';
  }
  if (row.behind !== true) return 'kept';
  await client.query('select pg_replication_slot_advance($1, $2::pg_lsn)', [row.slot, row.target]);
  return 'moved';
}

/** The row goes first: a slot without one is made anew, so no position of the old one is taken for one of the new. */
async function dropAnchor(client: Client): Promise<void> {
  await client.query('delete from pgquorum.change_anchor');
}

async function dropSlot(client: Client, slot: string): Promise<void> {
  await client.query(
    'select pg_drop_replication_slot(slot_name) from pg_replication_slots where slot_name = $1 and database = current_database()',
    [slot],
  );
}

async function locked<T>(client: Client, work: () => Promise<T>): Promise<T> {
  await client.query(`select pg_advisory_lock(${anchorLock})`);
  try {
    return await work();
  } finally {
    await client.query(`select pg_advisory_unlock(${anchorLock})`);
  }
}
