/**
 * A node learns that another one goes on under another number: the old one is retired, what is kept of the old one belongs to the new one, and as its past may
 * be a shorter one than what was read here, the edge from it begins anew. In one transaction, and done once.
 */
import type pg from 'pg';
import { transaction } from '../postgres/transaction.pg.ts';
import { beginResyncWithin } from '../resync/store.pg.ts';

export interface PeerIdentity {
  readonly name: string;
  readonly number: number;
  readonly spare: number | null;
  readonly zone: string;
}

/** False when it was known. */
export async function adoptNumber(client: pg.Client, peer: PeerIdentity): Promise<boolean> {
  const { rows } = await client.query<{ log: string; known: boolean; founded: boolean }>(
    `select n.log, exists (select from pgquorum.member m where m.number = $1 and not m.spare) as known, exists (select from pgquorum.member) as founded from pgquorum.node n`,
    [peer.number],
  );
  const here = rows[0];
  // Nodes that were never members of one another become so by founding.
  if (here === undefined || here.known || !here.founded) return false;
  const olds = await client.query<{ number: number }>(
    'select number from pgquorum.member where name = $1 and not spare and not retired',
    [peer.name],
  );
  if (olds.rows.length === 0) return false;
  const old = olds.rows.map((row) => row.number);
  await transaction(client, async () => {
    await keepMember(client, peer);
    for (const table of ['source', 'progress', 'resync', 'pause', 'parked'])
      await client.query(`update pgquorum.${table} set origin = $1 where origin = any($2::smallint[])`, [
        peer.number,
        old,
      ]);
    await beginResyncWithin(client, {
      origin: peer.number,
      log: here.log,
      reason: `${peer.name} goes on under another number: it was restored, cloned or promoted`,
      phase: here.log === 'wal' ? 'noting' : 'copying',
      synced: null,
      again: true,
    });
  });
  return true;
}

/** The number, and the spare one if there is one; all others of the name are retired. */
export async function keepMember(
  client: pg.Client,
  { name, number, spare, zone }: PeerIdentity,
): Promise<void> {
  await client.query(
    'update pgquorum.member set retired = true where name = $1 and number <> $2 and not spare',
    [name, number],
  );
  await client.query(
    `insert into pgquorum.member (number, name, zone, spare) values ($1, $2, $3, false) on conflict (number) do update set spare = false`,
    [number, name, zone],
  );
  if (spare !== null)
    await client.query(
      `insert into pgquorum.member (number, name, zone, spare) values ($1, $2, $3, true) on conflict (number) do nothing`,
      [spare, name, zone],
    );
}
