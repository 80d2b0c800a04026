/**
 * Who holds an advisory lock and has frozen keeps its connection, so the lock is never free. A holder that lives says something on that connection all the time; whoever
 * waits looks as often, and ends the connection of one that was silent for all of so many looks. Looks are counted, not timed: a machine that slept as a whole
 * takes nobody for dead. Who is ended wrongly loses no more than the lock.
 */
import type pg from 'pg';

/** Of sessions on this database that hold the advisory lock of a key: a condition on pg_locks l. `key` is an SQL expression. */
export const holdsLockSql = (key: string): string =>
  `l.locktype = 'advisory' and l.objsubid = 1 and l.granted and ((l.classid::bigint << 32) | l.objid::bigint) = ${key}
  and l.database = (select d.oid from pg_database d where d.datname = current_database())`;
/** $1 the key. */
const holding = holdsLockSql('$1::bigint');
export const holderSql = `select l.pid, a.backend_start::text || a.state_change::text as heard from pg_locks l left join pg_stat_activity a on a.pid = l.pid where ${holding}`;
/** Of all but the own session. */
export const endHoldersSql = `select pg_terminate_backend(l.pid) from pg_locks l where ${holding} and l.pid <> pg_backend_pid()`;

export class SilentHolder {
  readonly #looksMax: number;
  #heard: string | null = null;
  #silent = 0;

  constructor(looksMax: number) {
    this.#looksMax = looksMax;
  }

  /** Tells whether the holder's session was told to end. */
  async look(client: Pick<pg.Client, 'query'>, key: string): Promise<boolean> {
    const { rows } = await client.query<{ heard: string | null }>(holderSql, [key]);
    const now = rows[0]?.heard ?? null;
    this.#silent = now !== null && now === this.#heard ? this.#silent + 1 : 0;
    this.#heard = now;
    if (this.#silent < this.#looksMax) return false;
    await client.query(endHoldersSql, [key]);
    return true;
  }
}
