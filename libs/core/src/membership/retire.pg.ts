/**
 * A node forgets another one that was removed: its numbers are retired for good, and everything that was kept to follow it or to be followed by it goes.
 *
 * In this order, so that nothing comes back: the numbers are retired first, by which processes begin anew without the node, and positions for it are refused
 * (resync/note.pg.ts); then there are no sources to begin an edge from; then the sessions of edges that still run are ended, and what they may have written after goes. Its
 * dead letters and conflict records stay: they are the rows of users. May be repeated.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type pg from 'pg';
import { tellEvent } from '../events/tell.pg.ts';
import { PgquorumError } from '../errors/error.ts';
import { holdsLockSql } from '../postgres/silent-holder.pg.ts';
import { transaction } from '../postgres/transaction.pg.ts';
import { slotPrefix } from '../topology/names.ts';

export interface Forgotten {
  readonly name: string;
  readonly lost: boolean;
}

const endWithinMs = 5000;
const slotTriesMax = 100;
const slotPauseMs = 50;

/** On each survivor, under the founding locks. */
export async function retireNumbers(client: pg.Client, { name, lost }: Forgotten): Promise<void> {
  await transaction(client, async () => {
    const retired = await client.query<{ number: number; spare: boolean }>(
      'update pgquorum.member set retired = true where name = $1 and not retired returning number, spare',
      [name],
    );
    await client.query(
      'delete from pgquorum.source s using pgquorum.member m where m.name = $1 and s.origin = m.number',
      [name],
    );
    await client.query('delete from pgquorum.remembered where name = $1', [name]);
    const number = retired.rows.find(({ spare }) => !spare)?.number;
    if (number !== undefined)
      await tellEvent(client, 'replica-status', { replica: number, status: 'removed', lost });
  });
}

/** Sessions by what they hold: whoever has an edge, a copying or the noting of a position, and all that belong to it. */
const endSql = `select pg_terminate_backend(l.pid, ${endWithinMs}) from pg_locks l, pgquorum.member m, unnest(array['edge', 'copy', 'note']) what, unnest(array['wal', 'kafka']) log,
    unnest(array['pgquorum ', 'pgquorum members of ']) whose
  where m.name = $1 and ${holdsLockSql(`hashtextextended(whose || what || ' ' || log || ' ' || m.number, 7308895164427563361)`)}`;

/** On each survivor, once all of them have retired the numbers. */
export async function forgetNode(client: pg.Client, cluster: string, { name }: Forgotten): Promise<void> {
  await client.query(endSql, [name]);
  for (const table of ['progress', 'resync', 'pause'])
    await client.query(
      `delete from pgquorum.${table} t using pgquorum.member m where m.name = $1 and t.origin = m.number`,
      [name],
    );
  await client.query(
    'delete from pgquorum.watched w using pgquorum.member m where m.name = $1 and m.number in (w.origin, w.target)',
    [name],
  );
  await client.query('delete from pgquorum.remembered where name = $1', [name]);
  const { rows } = await client.query<{ number: number }>(
    'select number from pgquorum.member where name = $1',
    [name],
  );
  const readers = rows.map(({ number }) => number).join('|');
  await dropSlots(client, `^${slotPrefix(cluster)}[0-9]+_(${readers})$`);
}

/** Those of this database whose names match. Whoever reads one is ended. */
export async function dropSlots(client: pg.Client, pattern: string): Promise<void> {
  for (let tries = 0; tries < slotTriesMax; tries += 1) {
    const { rows } = await client.query<{ slot: string; pid: number | null }>(
      'select slot_name as slot, active_pid as pid from pg_replication_slots where database = current_database() and slot_name ~ $1',
      [pattern],
    );
    if (rows.length === 0) return;
    for (const { slot, pid } of rows) {
      if (pid !== null) await client.query(`select pg_terminate_backend($1, ${endWithinMs})`, [pid]);
      await client.query(
        'select pg_drop_replication_slot(slot_name) from pg_replication_slots where slot_name = $1 and not active',
        [slot],
      );
    }
    await sleep(slotPauseMs);
  }
  throw new PgquorumError('slot_in_use', `slots of a node that was removed are still read (${pattern})`);
}
