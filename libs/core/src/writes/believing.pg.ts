/** Reading from a node that agrees about who the replicas are, for as long as the reading takes. */
import type pg from 'pg';
import { checkBelief, type Belief } from './replica-sets.pg.ts';
import { inOrder } from './transaction.pg.ts';

/** In one transaction with what is checked of the belief; without one as it is. All is sent at once. */
export async function believing<T extends readonly Promise<unknown>[]>(
  client: pg.PoolClient,
  belief: Belief | null,
  send: () => [...T],
): Promise<{ [K in keyof T]: Awaited<T[K]> }> {
  if (belief === null) return inOrder(send());
  const begun = inOrder([client.query('begin isolation level read committed'), checkBelief(client, belief)]);
  begun.catch(() => undefined); // waited for below
  const read = inOrder(send());
  read.catch(() => undefined); // waited for below
  const committed = client.query('commit');
  await inOrder([begun, read, committed]);
  return read;
}
