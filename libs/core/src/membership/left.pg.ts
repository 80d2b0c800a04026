/**
 * What a node that was removed keeps: its users' tables, with their rows, as plain tables. Triggers, versions, conflict records and everything else of pgquorum go, so that
 * nothing is versioned or refused there any more. First the schema, in one transaction: without it no process can make a slot there; then the slots. May be repeated.
 */
import type pg from 'pg';
import { PgquorumError } from '../errors/error.ts';
import { sqlStateOf } from '../postgres/sqlstate.ts';
import { transaction } from '../postgres/transaction.pg.ts';
import { publicationName, slotPrefix } from '../topology/names.ts';
import { dropSlots } from './retire.pg.ts';

const lockMs = 3000;

export async function leaveTables(client: pg.Client, cluster: string, node: string): Promise<void> {
  try {
    await transaction(client, async () => {
      await client.query(`set local lock_timeout = ${lockMs}`);
      await client.query(`drop publication if exists ${publicationName}`);
      // Names of hundreds of objects that go with it are no news.
      await client.query('set local client_min_messages = warning');
      await client.query('drop schema if exists pgquorum cascade');
    });
  } catch (cause) {
    // Those who use the tables, and loops of processes that are about to learn of it.
    const sqlstate = sqlStateOf(cause);
    if (sqlstate === '55P03' || sqlstate === '40P01')
      throw new PgquorumError('table_busy', `the schema pgquorum of node ${node} is in use`, { cause });
    throw cause;
  }
  await dropSlots(client, `^${slotPrefix(cluster)}`);
}
