/** The members as a node knows them. */
import type pg from 'pg';
import type { NodeAddress } from '../config/settings.ts';
import { withConnection } from '../postgres/connect.pg.ts';
import { isRemoved, type MemberRow } from './members.ts';

export async function readMembers(client: Pick<pg.ClientBase, 'query'>): Promise<MemberRow[]> {
  const { rows } = await client.query<MemberRow>(
    'select m.number, m.name, m.zone, m.spare, m.retired, m.url, m.weight, m.change from pgquorum.member m order by m.number',
  );
  return rows;
}

/** The same of a database that may be no node, or one of an older version: nothing is made there. */
export async function lookAtMembers(client: Pick<pg.ClientBase, 'query'>): Promise<MemberRow[]> {
  const { rows } = await client.query<{ known: boolean }>(
    `select exists (select from pg_attribute a join pg_class c on c.oid = a.attrelid join pg_namespace n on n.oid = c.relnamespace
       where n.nspname = 'pgquorum' and c.relname = 'member' and a.attname = 'change') as known`,
  );
  return rows[0]!.known ? readMembers(client) : [];
}

/** Which of these names this node knows as those of nodes that were removed. */
export async function removedAmong(node: NodeAddress, names: readonly string[]): Promise<string[]> {
  const members = await withConnection(
    node,
    { application: 'pgquorum opening', answerWithinMs: 10_000 },
    readMembers,
  );
  return names.filter((name) => isRemoved(name, members));
}
