/**
 * A slot made anew, with a publication that has everything.
 *
 * Invariant: what was committed on the node and is not yet visible to a reader when this returns comes by the slot. It would break if a transaction
 * had its commit in the WAL before the slot's start and became visible only after the states were read: a commit that waits for a synchronous
 * standby is like that. So all transactions that ran when the slot was there are waited for.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type pg from 'pg';
import { publishedSql } from '../capture/published.pg.ts';
import { PgquorumError } from '../errors/error.ts';
import { quoteTable } from '../postgres/identifier.ts';
import { sqlStateOf } from '../postgres/sqlstate.ts';
import { transaction } from '../postgres/transaction.pg.ts';
import { publicationName } from '../topology/names.ts';

export interface MadeSlot {
  readonly lsn: string;
  readonly position: bigint;
  readonly publication: number;
}

const duplicateObject = '42710';
const runningPollMs = 20;

export async function remakeSlot(client: pg.Client, slot: string, signal: AbortSignal): Promise<MadeSlot> {
  await mendPublication(client);
  await client.query(
    'select pg_drop_replication_slot(slot_name) from pg_replication_slots where slot_name = $1 and not active and database = current_database()',
    [slot],
  );
  const made = await create(client, slot);
  const publication = await client.query<{ oid: string }>(
    'select oid::text as oid from pg_publication where pubname = $1',
    [publicationName],
  );
  if (publication.rows.length === 0)
    throw new PgquorumError('not_ready', `the publication ${publicationName} was dropped again`);
  await runningEnded(client, signal);
  return { ...made, publication: Number(publication.rows[0]!.oid) };
}

async function create(client: pg.Client, slot: string): Promise<{ lsn: string; position: bigint }> {
  try {
    const made = await client.query<{ lsn: string; position: string }>(
      `select lsn::text, (lsn - '0/0'::pg_lsn)::bigint::text as position from pg_create_logical_replication_slot($1, 'pgoutput')`,
      [slot],
    );
    return { lsn: made.rows[0]!.lsn, position: BigInt(made.rows[0]!.position) };
  } catch (cause) {
    if (sqlStateOf(cause) !== duplicateObject) throw cause;
    throw new PgquorumError(
      'slot_in_use',
      `slot ${slot} is still read by someone, or belongs to another database`,
      {
        cause,
      },
    );
  }
}

/** Makes the publication if it is missing, and adds what it lacks. */
async function mendPublication(client: pg.Client): Promise<void> {
  await transaction(client, async () => {
    // Several edges may find it missing at once.
    await client.query(`select pg_advisory_xact_lock(hashtextextended('pgquorum collections', 7308895))`);
    const found = await client.query<{ inserts: boolean; updates: boolean }>(
      'select pubinsert as inserts, pubupdate as updates from pg_publication where pubname = $1',
      [publicationName],
    );
    if (found.rows.length === 0)
      await client.query(`create publication ${publicationName} with (publish = 'insert, update')`);
    else if (!found.rows[0]!.inserts || !found.rows[0]!.updates)
      await client.query(`alter publication ${publicationName} set (publish = 'insert, update')`);
    const { rows } = await client.query<{
      schema: string;
      name: string;
      table_oid: string | null;
      member: string | null;
    }>(publishedSql);
    const missing = rows.filter((row) => row.member === null && row.table_oid !== null);
    if (missing.length > 0)
      await client.query(
        `alter publication ${publicationName} add table ${missing.map((row) => quoteTable(row)).join(', ')}`,
      );
  });
}

/**
 * Waits until every transaction that runs now has ended: what they wrote is visible from then on. A number of our own is drawn for it, since a snapshot
 * does not tell of running transactions that are younger than all that have ended.
 */
export async function runningEnded(client: pg.Client, signal: AbortSignal): Promise<void> {
  const now = await client.query<{ xid: string }>('select pg_current_xact_id()::text as xid');
  for (;;) {
    const { rows } = await client.query<{ ended: boolean }>(
      'select pg_snapshot_xmin(pg_current_snapshot()) > $1::xid8 as ended',
      [now.rows[0]!.xid],
    );
    if (rows[0]!.ended) return;
    await sleep(runningPollMs, undefined, { signal });
  }
}
