/**
 * The limits on the nodes. Setting them locks the rows of all nodes that are up, in one order, so that of two who set them at once the second sees the first;
 * a node that is down gets them later.
 */
import { randomUUID } from 'node:crypto';
import type pg from 'pg';
import { PgquorumError } from '../errors/error.ts';
import type { Deadline } from '../postgres/deadline.ts';
import { transaction } from '../postgres/transaction.pg.ts';
import { isNodeFailure, type Node, type Nodes } from '../topology/nodes.pg.ts';
import { limitsView, newest, type Limits, type LimitsView, type StoredLimits } from './limits.ts';

type Client = Pick<pg.ClientBase, 'query'>;

/** The row as JSON; numbers of bytes and revisions are far below 2^53. */
export const limitsSql = `select json_build_object('bytesPerSecond', t.bytes_per_second, 'totalBytesPerSecond', t.total_bytes_per_second, 'revision', t.revision, 'setter', t.setter, 'by', t.set_by) from pgquorum.throttle t`;

/** Keeps them unless newer ones are there, and tells of it where they are new. */
export async function keepLimits(client: Client, limits: StoredLimits): Promise<void> {
  await client.query(
    `with kept as (
       insert into pgquorum.throttle as t (bytes_per_second, total_bytes_per_second, revision, setter, set_by) values ($1, $2, $3, $4, $5)
       on conflict (only_row) do update set bytes_per_second = excluded.bytes_per_second, total_bytes_per_second = excluded.total_bytes_per_second,
         revision = excluded.revision, setter = excluded.setter, set_by = excluded.set_by, set_at = excluded.set_at
       where (t.revision, t.setter) < (excluded.revision, excluded.setter)
       returning t.bytes_per_second, t.total_bytes_per_second, t.revision, t.set_by
     )
     insert into pgquorum.event (type, body) select 'throttled', jsonb_build_object('happened', 'limit-set',
       'bytesPerSecond', k.bytes_per_second, 'totalBytesPerSecond', k.total_bytes_per_second, 'revision', k.revision::text, 'by', k.set_by) from kept k`,
    [limits.bytesPerSecond, limits.totalBytesPerSecond, limits.revision, limits.setter, limits.by],
  );
}

export interface SetLimits {
  readonly change: Partial<Limits>;
  /** The revision that must be the present one; null = any. */
  readonly ifMatch: string | null;
  readonly by: string;
}

export class ThrottleStore {
  readonly #nodes: Nodes;
  readonly #settings: Limits;

  constructor(nodes: Nodes, settings: Limits) {
    this.#nodes = nodes;
    this.#settings = settings;
  }

  async get(deadline: Deadline): Promise<LimitsView> {
    const found = await Promise.allSettled(
      this.#nodes.all.map((node) => node.run(deadline, (client) => readLimitsOn(client))),
    );
    const failed = found.find(
      (one): one is PromiseRejectedResult => one.status === 'rejected' && !isNodeFailure(one.reason),
    );
    if (failed !== undefined) throw failed.reason;
    const rows = found.flatMap((one) => (one.status === 'fulfilled' ? [one.value] : []));
    if (rows.length === 0) throw new PgquorumError('replicas_unavailable', 'no node can be asked');
    return limitsView(newest(rows), this.#settings);
  }

  async set(wanted: SetLimits, deadline: Deadline): Promise<LimitsView> {
    const live = this.#nodes.live.toSorted((a, b) => (a.name < b.name ? -1 : 1));
    if (live.length === 0) throw new PgquorumError('replicas_unavailable', 'no node can be written');
    try {
      return await this.#onAll(live, [], deadline, (held) => this.#setOn(held, wanted));
    } catch (cause) {
      if (!isNodeFailure(cause)) throw cause;
      throw new PgquorumError('node_unreachable', 'a node was lost while the limits were set', { cause });
    }
  }

  async #setOn(held: readonly Client[], { change, ifMatch, by }: SetLimits): Promise<LimitsView> {
    const before = newest(await Promise.all(held.map((client) => readLimitsOn(client))));
    const present = limitsView(before, this.#settings);
    if (ifMatch !== null && ifMatch.replaceAll('"', '') !== present.revision)
      throw new PgquorumError('version_mismatch', `the limits are at revision ${present.revision}`);
    const limits = {
      bytesPerSecond: present.bytesPerSecond,
      totalBytesPerSecond: present.totalBytesPerSecond,
      ...change,
      revision: Number(present.revision) + 1,
      setter: randomUUID(),
      by,
    };
    for (const client of held) await keepLimits(client, limits);
    return limitsView(limits, this.#settings);
  }

  /** In a transaction on each, with the row locked. */
  #onAll<T>(
    rest: readonly Node[],
    held: readonly Client[],
    deadline: Deadline,
    work: (held: readonly Client[]) => Promise<T>,
  ): Promise<T> {
    const [node, ...others] = rest;
    if (node === undefined) return work(held);
    return node.run(deadline, (client) =>
      transaction(client, async () => {
        // There may be no row yet.
        await client.query('lock table pgquorum.throttle in share row exclusive mode');
        return this.#onAll(others, [...held, client], deadline, work);
      }),
    );
  }
}

async function readLimitsOn(client: Client): Promise<StoredLimits | null> {
  const { rows } = await client.query<{ limits: StoredLimits | null }>(`select (${limitsSql}) as limits`);
  return rows[0]!.limits;
}
