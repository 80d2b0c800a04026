/**
 * Brings the trigger functions of the collections on one node to the text that this state of the code makes: without it only new collections would have
 * what a newer one does better. Functions are replaced under the triggers that call them, by the next statement of every session.
 */
import type pg from 'pg';
import { listCollections, lockCollections } from './catalog.pg.ts';
import { triggerEvents, triggerFunctionName, triggerFunctions } from './trigger.ts';

/** Between these, a function is stored as it was sent. */
const quote = '$body$';
const bodyOf = (statement: string): string =>
  statement.slice(statement.indexOf(quote) + quote.length, statement.lastIndexOf(quote));

/** Returns the names of the collections of which something was made anew. The usual start finds nothing to do, and waits for nobody. */
export async function renewTriggers(client: pg.Client): Promise<string[]> {
  if ((await outdated(client)).length === 0) return [];
  await client.query('begin');
  try {
    // Rules may have been changed until the lock was there, or functions made anew by another starter.
    await lockCollections(client);
    const old = await outdated(client);
    for (const { statement } of old) await client.query(statement);
    await client.query('commit');
    return [...new Set(old.map(({ collection }) => collection))];
  } catch (cause) {
    await client.query('rollback').catch(() => undefined); // the connection may be what failed; the server rolls back then
    throw cause;
  }
}

async function outdated(client: pg.Client): Promise<{ collection: string; statement: string }[]> {
  const collections = await listCollections(client);
  const { rows } = await client.query<{ role: string; name: string; body: string }>(
    // Functions let only their owner's replication pass: those of another role are left to processes that run under it.
    `select session_user::text as role, n.name, p.prosrc as body from unnest($1::text[]) n(name) join pg_proc p on p.oid = to_regproc(n.name)
     where p.proowner = (select r.oid from pg_roles r where r.rolname = session_user)`,
    [collections.flatMap(({ table }) => triggerEvents.map((event) => triggerFunctionName(table, event)))],
  );
  const bodies = new Map(rows.map(({ name, body }) => [name, body]));
  return collections.flatMap(({ name: collection, table, definition }) =>
    triggerFunctions(table, definition.conflicts, rows[0]?.role ?? '').flatMap((statement, at) => {
      const body = bodies.get(triggerFunctionName(table, triggerEvents[at]!));
      return body === undefined || body === bodyOf(statement) ? [] : [{ collection, statement }];
    }),
  );
}
