/**
 * The right to do something alone on one node: a session advisory lock on a connection of its own, so it goes with whoever held it. What is done under it must be
 * safe for a moment of two holders (a holder whose connection the server has given up does not know it yet): check again in the writing transaction.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type pg from 'pg';
import type { NodeAddress } from '../config/settings.ts';
import { closeClient, connect } from './connect.pg.ts';

const retryMs = 500;
const answerWithinMs = 10_000;

export class SessionLease {
  readonly #client: pg.Client;

  private constructor(client: pg.Client) {
    this.#client = client;
  }

  /** Waits until it is free; null when the signal aborts before. */
  static async take(node: NodeAddress, resource: string, signal: AbortSignal): Promise<SessionLease | null> {
    const client = await connect(node, { application: `pgquorum lease ${resource}`, answerWithinMs });
    try {
      while (!signal.aborted) {
        const { rows } = await client.query<{ held: boolean }>(
          'select pg_try_advisory_lock(hashtextextended($1, 7308895164427563361)) as held',
          [`pgquorum ${resource}`],
        );
        if (rows[0]!.held) return new SessionLease(client);
        await sleep(retryMs, undefined, { signal }).catch(() => undefined); // the loop's condition sees the abort
      }
    } catch (cause) {
      await closeClient(client);
      throw cause;
    }
    await closeClient(client);
    return null;
  }

  /** Throws when the connection, and the lock with it, is gone. */
  async check(): Promise<void> {
    await this.#client.query('select');
  }

  async release(): Promise<void> {
    await closeClient(this.#client);
  }
}
