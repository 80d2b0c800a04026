/**
 * The right to do something alone on one node: a session advisory lock on a connection of its own, so it goes with whoever held it.
 *
 * - A holder that ends, however, leaves its connection, and whoever waits has the lock at once.
 * - A holder that freezes keeps its connection. It says something on it every second, and who waits ends it when it has been silent (silent-holder.pg.ts).
 * - What was done under the lease by other sessions may outlive the lock (a frozen holder has more than one connection). Sessions that must not do so become
 *   members; whoever takes the lease ends all members that are left before it has it, and a member that comes later finds that its lease is gone.
 *
 * So two holders never write through members at the same time. What else is done under a lease must be safe for a moment of two holders (one whose connection the
 * server has given up does not know it yet): check again in the writing transaction.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type pg from 'pg';
import type { NodeAddress } from '../config/settings.ts';
import { PgquorumError } from '../errors/error.ts';
import { closeClient, connect, withConnection, type ConnectOptions } from './connect.pg.ts';
import { endHoldersSql, holderSql, SilentHolder } from './silent-holder.pg.ts';
import { sqlStateOf } from './sqlstate.ts';

const renewEveryMs = 1000;
/** How long one look waits for the lock; whoever lets go of it is followed at once. */
const lookMs = 1000;
const silentLooksMax = 10;
const pauseMs = 20;
const answerWithinMs = 10_000;
/** A machine that is gone without a word: the server gives its connections up in less than the looks take. */
const keepAliveSql =
  'set tcp_keepalives_idle = 3; set tcp_keepalives_interval = 2; set tcp_keepalives_count = 2';
/** The same for one that stops in the middle of a transaction, and holds users' rows locked. */
const memberSql = `${keepAliveSql}; set idle_in_transaction_session_timeout = 8000`;

const lockNotAvailable = '55P03';

export interface LeaseOptions {
  /** Called when somebody else turns out to have it. */
  readonly onStandby?: () => void;
}

export class SessionLease {
  readonly #client: pg.Client;
  readonly #resource: string;
  readonly #keys: LeaseKeys;
  readonly #lost = new AbortController();
  readonly #renewing: NodeJS.Timeout;

  private constructor(client: pg.Client, resource: string, keys: LeaseKeys) {
    this.#client = client;
    this.#resource = resource;
    this.#keys = keys;
    this.#renewing = setInterval(() => void this.#renew(), renewEveryMs).unref();
  }

  /** Waits until it is free; null when the signal aborts before. */
  static async take(
    node: NodeAddress,
    resource: string,
    signal: AbortSignal,
    options: LeaseOptions = {},
  ): Promise<SessionLease | null> {
    if (signal.aborted) return null;
    const client = await connect(node, { application: `pgquorum lease ${resource}`, answerWithinMs });
    // A statement that waits would hold up the end for as long as it waits.
    const hurry = () => void closeClient(client);
    signal.addEventListener('abort', hurry, { once: true });
    try {
      await client.query(`${keepAliveSql}; set lock_timeout = ${lookMs}`);
      const keys = await keysOf(client, resource);
      await waitForLock(client, keys, signal, options);
      await endMembers(client, keys, signal);
      signal.throwIfAborted();
      return new SessionLease(client, resource, keys);
    } catch (cause) {
      await closeClient(client);
      if (signal.aborted) return null;
      throw cause;
    } finally {
      signal.removeEventListener('abort', hurry);
    }
  }

  /** Rejects with `lease_lost` once the connection, and the lock with it, is gone. */
  whenLost(): Promise<never> {
    return new Promise((_, reject) => {
      const lost = () => reject(this.#lost.signal.reason as Error);
      if (this.#lost.signal.aborted) lost();
      else this.#lost.signal.addEventListener('abort', lost, { once: true });
    });
  }

  /** Throws when it is gone. */
  async check(): Promise<void> {
    await this.#client.query('select');
  }

  async #renew(): Promise<void> {
    try {
      await this.check();
    } catch (cause) {
      this.#lose(cause);
    }
  }

  #lose(cause: unknown): void {
    clearInterval(this.#renewing);
    this.#lost.abort(this.#error(cause));
  }

  #error(cause?: unknown): PgquorumError {
    return new PgquorumError('lease_lost', `the connection that held the lease ${this.#resource} was lost`, {
      cause,
    });
  }

  /** Ties a session on the same node to the lease: it does not outlive it by more than the moment that the next holder waits for. Throws `lease_lost`. */
  async join(client: pg.Client): Promise<void> {
    const { lease, members } = this.#keys;
    await client.query(memberSql);
    // First in, then asked: from here on the next holder sees this session.
    const { rows } = await client.query<{ joined: boolean }>(
      'select pg_try_advisory_lock_shared($1) as joined',
      [members],
    );
    const holder = await client.query<{ pid: number }>(holderSql, [lease]);
    const mine = (this.#client as unknown as { processID: number }).processID;
    if (!rows[0]!.joined || this.#lost.signal.aborted || holder.rows[0]?.pid !== mine) throw this.#error();
  }

  /** Work under the lease on a connection of its own. The lease goes with it, also when the connection can not be had: what is left behind nobody could take again. */
  async connected<T>(
    node: NodeAddress,
    options: ConnectOptions,
    work: (client: pg.Client) => Promise<T>,
  ): Promise<T> {
    try {
      return await withConnection(node, options, work);
    } finally {
      await this.release();
    }
  }

  async release(): Promise<void> {
    clearInterval(this.#renewing);
    await closeClient(this.#client);
  }
}

interface LeaseKeys {
  readonly lease: string;
  readonly members: string;
}

async function keysOf(client: pg.Client, resource: string): Promise<LeaseKeys> {
  const { rows } = await client.query<LeaseKeys>(
    'select hashtextextended($1, 7308895164427563361)::text as lease, hashtextextended($2, 7308895164427563361)::text as members',
    [`pgquorum ${resource}`, `pgquorum members of ${resource}`],
  );
  return rows[0]!;
}

async function waitForLock(
  client: pg.Client,
  { lease }: LeaseKeys,
  signal: AbortSignal,
  { onStandby }: LeaseOptions,
): Promise<void> {
  const first = await client.query<{ held: boolean }>('select pg_try_advisory_lock($1) as held', [lease]);
  if (first.rows[0]!.held) return;
  onStandby?.();
  const holder = new SilentHolder(silentLooksMax);
  for (;;) {
    signal.throwIfAborted();
    try {
      await client.query('select pg_advisory_lock($1)', [lease]);
      return;
    } catch (cause) {
      if (sqlStateOf(cause) !== lockNotAvailable) throw cause;
    }
    await holder.look(client, lease);
  }
}

/** Waits until no session of an earlier holder is left. */
async function endMembers(client: pg.Client, { members }: LeaseKeys, signal: AbortSignal): Promise<void> {
  for (;;) {
    const { rows } = await client.query<{ alone: boolean }>('select pg_try_advisory_lock($1) as alone', [
      members,
    ]);
    if (rows[0]!.alone) break;
    await client.query(endHoldersSql, [members]);
    await sleep(pauseMs, undefined, { signal });
  }
  await client.query('select pg_advisory_unlock($1)', [members]);
}
