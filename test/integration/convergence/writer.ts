/** Random writes through random masters by SQL and HTTP; what is acknowledged goes into the ledger. */
import pg from 'pg';
import type { TestNode } from '#core/testing/masters.pg.ts';
import { isConnectionError } from '#core/postgres/sqlstate.ts';
import type { Ledger } from './ledger.ts';

export interface WriterOptions {
  readonly masters: readonly TestNode[];
  readonly ledger: Ledger;
  readonly random: () => number;
  readonly collection: string;
  readonly keys: number;
  readonly dimension: number;
  /** The address of a gateway, or what picks one for a request. */
  readonly gateway: string | (() => string) | null;
  /** What the names of keys begin with: writers with different ones never meet. */
  readonly prefix?: string;
  /** A truncate meets everybody's keys. */
  readonly truncates?: boolean;
  /** Its masters may leave meanwhile: they refuse writes then, and are no masters. */
  readonly leaves?: boolean;
  /** Node name -> number: HTTP names nodes, dots number them. */
  readonly numbers: ReadonlyMap<string, number>;
}

interface Statement {
  readonly text: string;
  readonly values: unknown[];
}

/** Errors that a client of a busy or restarting master has to expect: its write was refused and nothing is claimed about it. */
const expected = new Set(['40001', '40P01', '23505', '25006', '55P03', '57014']);

/** fetch's words for a connection that was lost before or within the answer. (Its errors are not of the test's own class Error.) */
export const isLost = (error: unknown): boolean =>
  ['fetch failed', 'terminated'].includes((error as Error).message);

/** pg's and its pool's words for a master that is too busy to let somebody in. */
const isConnectTimeout = (error: unknown): boolean =>
  /^(timeout exceeded when trying to connect|timeout expired|Connection terminated due to connection timeout)$/.test(
    (error as Error).message,
  );

/** Of a master that leaves: closed to writes, and without its versions. */
const left = new Set(['PQ013', '42P01', '3F000']);

let nextMarker = 0;

export class RandomWriter {
  readonly #options: WriterOptions;
  readonly #pools: pg.Pool[];
  #tail: string | undefined;
  readonly counts = { acknowledged: 0, refused: 0, unreachable: 0 };
  readonly kinds = new Map<string, number>();

  constructor(options: WriterOptions) {
    this.#options = options;
    this.#pools = options.masters.map((master) => {
      const pool = new pg.Pool({
        connectionString: master.url,
        max: 8,
        connectionTimeoutMillis: 10_000,
        application_name: 'random writer',
      });
      pool.on('error', () => undefined); // the master was restarted
      pool.on('connect', (client) => client.on('error', () => undefined)); // the statement that notices it rejects
      return pool;
    });
  }

  async close(): Promise<void> {
    await Promise.all(this.#pools.map((pool) => pool.end()));
  }

  #key(): string {
    // A third of the writes go to a few hot keys, so that masters really meet on them.
    const { random, keys, prefix = '' } = this.#options;
    return random() < 0.3
      ? `${prefix}hot${Math.floor(random() * 5)}`
      : `${prefix}key${Math.floor(random() * keys)}`;
  }

  /** Large enough to be stored out of line, and distinct: making all of it anew would be most of the test's work. */
  #vector(): string {
    const { random, dimension } = this.#options;
    this.#tail ??= Array.from({ length: dimension - 2 }, () => Math.fround(random()).toString()).join(',');
    return `[${Math.fround(random())},${Math.fround(random())},${this.#tail}]`;
  }

  /** One operation; of some kinds on two masters at once. */
  async one(): Promise<void> {
    const { random, gateway } = this.#options;
    const kind = random();
    if (kind < 0.12) {
      const key = this.#key();
      const first = Math.floor(random() * this.#pools.length);
      const second = (first + 1 + Math.floor(random() * (this.#pools.length - 1))) % this.#pools.length;
      await Promise.all([
        this.#sql(first, 'same key', [this.#upsert(key)]),
        this.#sql(second, 'same key', [random() < 0.7 ? this.#upsert(key) : this.#delete(key)]),
      ]);
    } else if (kind < 0.3 && gateway !== null)
      await this.#http(typeof gateway === 'string' ? gateway : gateway());
    else await this.#sql(Math.floor(random() * this.#pools.length), ...this.#statements());
  }

  #statements(): [string, Statement[]] {
    const { random, collection, truncates = true } = this.#options;
    const kind = random();
    if (kind < 0.3) return ['upsert', [this.#upsert(this.#key())]];
    if (kind < 0.5) return ['metadata only', [this.#metadata(this.#key())]];
    if (kind < 0.62) return ['vector', [this.#vectorUpdate(this.#key())]];
    if (kind < 0.77) return ['delete', [this.#delete(this.#key())]];
    if (kind < 0.83) {
      const key = this.#key();
      return ['delete and insert', [this.#delete(key), this.#insert(key)]];
    }
    if (kind < 0.88)
      return [
        'changed key',
        [
          {
            text: `update public.${collection} set id = $2, metadata = $3 where id = $1`,
            values: [this.#key(), this.#key(), this.#marker()],
          },
        ],
      ];
    if (kind < 0.998 || !truncates) {
      const keys = [...new Set([this.#key(), this.#key(), this.#key(), this.#key()])].sort();
      return [
        'many statements',
        keys.map((key) =>
          random() < 0.6 ? this.#upsert(key) : random() < 0.5 ? this.#metadata(key) : this.#delete(key),
        ),
      ];
    }
    return ['truncate', [{ text: `truncate public.${collection}`, values: [] }]];
  }

  #marker(): string {
    nextMarker += 1;
    return JSON.stringify({ w: `w${nextMarker}` });
  }

  #upsert(key: string): Statement {
    return {
      text: `insert into public.${this.#options.collection} (id, embedding, metadata) values ($1, $2, $3) on conflict (id) do update set embedding = excluded.embedding, metadata = excluded.metadata`,
      values: [key, this.#vector(), this.#marker()],
    };
  }

  #insert(key: string): Statement {
    return {
      text: `insert into public.${this.#options.collection} (id, embedding, metadata) values ($1, $2, $3) on conflict do nothing`,
      values: [key, this.#vector(), this.#marker()],
    };
  }

  #metadata(key: string): Statement {
    return {
      text: `update public.${this.#options.collection} set metadata = $2 where id = $1`,
      values: [key, this.#marker()],
    };
  }

  #vectorUpdate(key: string): Statement {
    return {
      text: `update public.${this.#options.collection} set embedding = $2, metadata = $3 where id = $1`,
      values: [key, this.#vector(), this.#marker()],
    };
  }

  #delete(key: string): Statement {
    return { text: `delete from public.${this.#options.collection} where id = $1`, values: [key] };
  }

  async #sql(master: number, kind: string, statements: readonly Statement[]): Promise<void> {
    const { collection, ledger, leaves = false } = this.#options;
    let client: pg.PoolClient | null = null;
    let broken: Error | undefined;
    try {
      client = await this.#pools[master]!.connect();
      await client.query('begin');
      for (const { text, values } of statements) await client.query(text, values);
      // What this transaction wrote, as the database itself says.
      const written = await client.query<{
        id: string;
        dot: string;
        deleted: boolean;
        marker: string | null;
      }>(
        `select v.id, v.origin || '.' || v.counter as dot, v.deleted, t.metadata ->> 'w' as marker from pgquorum.version_${collection} v left join public.${collection} t on t.id = v.id where v.xmin = pg_current_xact_id()::xid`,
      );
      await client.query('commit');
      for (const row of written.rows)
        ledger.add({
          key: row.id,
          dot: row.dot,
          deleted: row.deleted,
          marker: row.deleted ? null : row.marker,
        });
      this.counts.acknowledged += 1;
      this.kinds.set(kind, (this.kinds.get(kind) ?? 0) + 1);
    } catch (error) {
      if (isConnectionError(error) || client === null) {
        this.counts.unreachable += 1;
        broken = error as Error;
        if (client === null && !isConnectionError(error) && !isConnectTimeout(error)) throw error;
        return;
      }
      const code = (error as { code?: string }).code ?? '';
      if (!expected.has(code) && !(leaves && left.has(code))) throw error;
      this.counts.refused += 1;
      await client.query('rollback').catch((lost: Error) => (broken = lost));
    } finally {
      client?.release(broken);
    }
  }

  async #http(gateway: string): Promise<void> {
    const { collection, ledger, random } = this.#options;
    const key = this.#key();
    const marker = this.#marker();
    const remove = random() < 0.25;
    try {
      const response = remove
        ? await fetch(`${gateway}/v1/collections/${collection}/vectors/${key}?consistency=one`, {
            method: 'DELETE',
          })
        : await fetch(`${gateway}/v1/collections/${collection}/vectors?consistency=one`, {
            method: 'POST',
            headers: { 'content-type': 'application/json' },
            body: JSON.stringify({
              vectors: [
                {
                  id: key,
                  embedding: JSON.parse(this.#vector()) as number[],
                  metadata: JSON.parse(marker) as unknown,
                },
              ],
            }),
          });
      const answer = (await response.json()) as {
        results?: { version?: { origin: string; counter: string } }[];
        version?: { origin: string; counter: string };
      };
      const version = answer.results?.[0]?.version ?? answer.version;
      if (response.ok && version !== undefined) {
        ledger.add({
          key,
          dot: `${this.#options.numbers.get(version.origin)}.${version.counter}`,
          deleted: remove,
          marker: remove ? null : (JSON.parse(marker) as { w: string }).w,
        });
        this.counts.acknowledged += 1;
        this.kinds.set(
          remove ? 'http delete' : 'http upsert',
          (this.kinds.get(remove ? 'http delete' : 'http upsert') ?? 0) + 1,
        );
      } else if (response.status === 404 || response.status >= 500) this.counts.unreachable += 1;
      else throw new Error(`the gateway answered ${response.status} ${JSON.stringify(answer)}`);
    } catch (error) {
      if (!isLost(error)) throw error;
      this.counts.unreachable += 1;
    }
  }
}
