/**
 * Clients that count. By HTTP each request has a key and is sent until it is acknowledged, to whichever gateway is there: it counts exactly once. By SQL a
 * lost connection leaves open whether the last statement counts, so the sum lies between what was acknowledged and what was tried.
 */
import pg from 'pg';
import { setTimeout as sleep } from 'node:timers/promises';
import { isConnectionError } from '#core/postgres/sqlstate.ts';
import type { TestMaster } from '#core/testing/masters.pg.ts';
import { isLost } from '../convergence/writer.ts';
import { mixedCollections } from './scene.ts';

const { counted } = mixedCollections;
export const tallyKeys = ['t0', 't1', 't2', 't3'] as const;

/** What a busy or restarting master answers: the statement was refused. */
const refused = new Set(['40001', '40P01', '55P03', '57014', '25006', '23505']);

export interface Tally {
  /** By HTTP. */
  views: number;
  /** By SQL: acknowledged, and tried without an answer. */
  stock: number;
  readonly unknown: number[];
  readonly tags: Set<string>;
}

export class Tallies {
  readonly #sums = new Map<string, Tally>(
    tallyKeys.map((key) => [key, { views: 0, stock: 0, unknown: [], tags: new Set() }]),
  );
  readonly counts = { patches: 0, repeats: 0, statements: 0, unanswered: 0 };
  #requests = 0;

  of(key: string): Tally {
    return this.#sums.get(key)!;
  }

  /** One request, until it is acknowledged. */
  async patch(gateway: () => string, random: () => number): Promise<void> {
    const key = tallyKeys[Math.floor(random() * tallyKeys.length)]!;
    const by = 1 + Math.floor(random() * 3);
    this.#requests += 1;
    const id = `patch ${process.pid} ${this.#requests}`;
    const tag = `tag${this.#requests % 40}`;
    const body = JSON.stringify({ crdt: { views: { increment: by }, tags: { add: tag } } });
    for (let tries = 0; ; tries += 1) {
      const status = await this.#send(
        `${gateway()}/v1/collections/${counted}/vectors/${key}?consistency=one`,
        id,
        body,
      );
      if (status === 200) break;
      if (tries > 0) this.counts.repeats += 1;
      await sleep(100);
    }
    const tally = this.of(key);
    tally.views += by;
    tally.tags.add(tag);
    this.counts.patches += 1;
  }

  async #send(url: string, id: string, body: string): Promise<number | null> {
    try {
      const response = await fetch(url, {
        method: 'PATCH',
        headers: { 'content-type': 'application/json', 'idempotency-key': id },
        body,
      });
      const text = await response.text();
      if (response.status !== 200 && response.status < 500)
        throw new Error(`the gateway answered ${response.status} ${text}`);
      return response.status;
    } catch (error) {
      if (isLost(error)) return null;
      throw error;
    }
  }

  /** One statement. */
  async add(master: TestMaster, random: () => number): Promise<void> {
    const key = tallyKeys[Math.floor(random() * tallyKeys.length)]!;
    const by = random() < 0.3 ? -2 : 3;
    const client = new pg.Client({ connectionString: master.url, connectionTimeoutMillis: 5000 });
    client.on('error', () => undefined); // the statement that notices it rejects
    let sent = false;
    try {
      await client.connect();
      sent = true;
      await client.query(`select pgquorum.counter_add($1, $2, 'stock', $3)`, [counted, key, by]);
      this.of(key).stock += by;
      this.counts.statements += 1;
    } catch (error) {
      if (refused.has((error as { code?: string }).code ?? '')) return;
      if (!isConnectionError(error) && sent) throw error;
      if (sent) {
        this.of(key).unknown.push(by);
        this.counts.unanswered += 1;
      }
    } finally {
      await client.end().catch(() => undefined); // the server may be gone
    }
  }

  /** Sentences about what does not add up on a master. */
  audit(found: ReadonlyMap<string, { views: number; stock: number; tags: readonly string[] }>): string[] {
    return tallyKeys.flatMap((key) => {
      const { views, stock, unknown, tags } = this.of(key);
      const is = found.get(key);
      if (is === undefined) return [`${key} is gone`];
      const least = stock + unknown.filter((by) => by < 0).reduce((sum, by) => sum + by, 0);
      const most = stock + unknown.filter((by) => by > 0).reduce((sum, by) => sum + by, 0);
      return [
        ...(is.views === views ? [] : [`${key}: views are ${is.views}, acknowledged were ${views}`]),
        ...(is.stock >= least && is.stock <= most
          ? []
          : [`${key}: stock is ${is.stock}, acknowledged were ${stock}, unanswered ${unknown.join(' ')}`]),
        ...[...tags].filter((tag) => !is.tags.includes(tag)).map((tag) => `${key}: ${tag} is missing`),
      ];
    });
  }
}
