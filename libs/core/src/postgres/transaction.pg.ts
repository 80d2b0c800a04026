/** Transactions on a connection that the caller has; inTransaction (connect.pg.ts) takes one from a pool. */
import type pg from 'pg';

type Client = Pick<pg.ClientBase, 'query'>;

/** Runs `work` between `begin` and `commit`. When either fails all is rolled back, and the caller gets what failed. */
export const transaction = <T>(client: Client, work: () => Promise<T>): Promise<T> =>
  transactionBegunBy(client, 'begin', work);

/** The same with what else is set for the transaction in the statement that begins it. */
export async function transactionBegunBy<T>(
  client: Client,
  begin: string,
  work: () => Promise<T>,
): Promise<T> {
  await client.query(begin);
  try {
    const result = await work();
    await client.query('commit');
    return result;
  } catch (cause) {
    await client.query('rollback').catch(() => undefined); // the connection may be what failed; the server rolls back then
    throw cause;
  }
}
