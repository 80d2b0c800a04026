/**
 * A node stops taking writes of users: nothing is versioned there any more, by anyone but apply. Done with a trigger on each version table, for all writes of users end
 * there, in the transaction that makes the row. To make it waits for the transactions that have written versions, and those that come after meet it whatever their
 * snapshot is. So when this is committed, everything that was ever written there is in the WAL before it.
 */
import type pg from 'pg';
import { listCollections } from '../collections/catalog.pg.ts';
import { versionTable } from '../collections/trigger.ts';
import { PgquorumError } from '../errors/error.ts';
import { quoteText } from '../postgres/identifier.ts';
import { sqlStateOf } from '../postgres/sqlstate.ts';
import { transaction } from '../postgres/transaction.pg.ts';

const lockMs = 1000;
const triggerName = 'pgquorum_refuse';

type Step = (client: pg.Client) => Promise<void>;

/** Throws `table_busy` while a long transaction has written. `why` is what users are told. `check` is in the same transaction, before. May be repeated. */
export async function closeNode(client: pg.Client, node: string, why: string, check?: Step): Promise<void> {
  await alone(client, `node ${node} can not be closed to writes yet`, async () => {
    await check?.(client);
    const role = (await client.query<{ role: string }>('select session_user::text as role')).rows[0]!.role;
    for (const { table } of await listCollections(client)) {
      const versions = versionTable(table);
      const there = await client.query(
        'select from pg_trigger where tgrelid = $1::regclass and tgname = $2',
        [versions, triggerName],
      );
      if (there.rows.length > 0) continue;
      await client.query(
        `create trigger ${triggerName} before insert or update on ${versions} for each statement execute function pgquorum.refuse_write(${quoteText(role)}, ${quoteText(why)})`,
      );
      await client.query(`alter table ${versions} enable always trigger ${triggerName}`);
    }
  });
}

/** Users may write again. `first` is in the same transaction. Throws `table_busy` while somebody holds a table. May be repeated. */
export async function openNode(client: pg.Client, node: string, first: Step): Promise<void> {
  await alone(client, `node ${node} can not be opened to writes yet`, async () => {
    await first(client);
    const { rows } = await client.query<{ versions: string }>(
      'select t.tgrelid::regclass::text as versions from pg_trigger t where t.tgname = $1 and not t.tgisinternal order by 1',
      [triggerName],
    );
    for (const { versions } of rows) await client.query(`drop trigger ${triggerName} on ${versions}`);
  });
}

async function alone(client: pg.Client, busy: string, work: () => Promise<void>): Promise<void> {
  try {
    await transaction(client, async () => {
      await client.query(`set local lock_timeout = ${lockMs}`);
      await work();
    });
  } catch (cause) {
    if (sqlStateOf(cause) === '55P03') throw new PgquorumError('table_busy', busy, { cause });
    throw cause;
  }
}
