/** Writes an event down on the node of the connection, in the transaction that runs there if one does. */
import type pg from 'pg';
import type { EventType } from './event.ts';

/** Nodes are given by their numbers: `from`, `to`, `origin`, `replica`. */
export async function tellEvent(
  client: Pick<pg.ClientBase, 'query'>,
  type: EventType,
  body: Readonly<Record<string, unknown>>,
): Promise<void> {
  await client.query('insert into pgquorum.event (type, body) values ($1, $2)', [type, JSON.stringify(body)]);
}
