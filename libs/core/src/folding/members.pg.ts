/**
 * The other members, as the node that folds asks them: what they have seen of keys, and to remember requests that are going to be folded. All of them
 * answer or nothing is folded: an error ends this object, and with it all looks that were taken through it.
 */
import type pg from 'pg';
import type { CollectionTable } from '../collections/definition.ts';
import { PgquorumError } from '../errors/error.ts';
import { closeClient, connect } from '../postgres/connect.pg.ts';
import { isConnectionError } from '../postgres/sqlstate.ts';
import type { ClusterNode } from '../topology/found.pg.ts';
import type { Clock } from '../versioning/clock.ts';
import type { NodeNumber } from '../versioning/version.ts';
import type { Looks } from './stability.ts';
import { keyArrays, rememberSql, seenSql } from './statements.ts';

/** A member that fell silent must not keep looks that are old, nor hold up the others for long. */
const answerWithinMs = 10_000;

/** What is about to be folded: on a member it is refused from then on, as on a node that carried it out. */
export interface Remembered {
  readonly key: string;
  readonly request: string;
  readonly counter: number;
}

export interface SeenRow {
  readonly place: number;
  readonly number: number;
  readonly seen: Clock;
}

export interface RememberOptions {
  readonly collection: string;
  /** The node that folds: it carried the requests out itself. */
  readonly origin: NodeNumber;
  readonly requests: readonly Remembered[];
}

export async function remember(
  client: pg.Client,
  { collection, origin, requests }: RememberOptions,
): Promise<void> {
  await client.query(rememberSql, [
    collection,
    origin,
    requests.map((one) => one.key),
    requests.map((one) => one.request),
    requests.map((one) => one.counter),
  ]);
}

export class Members {
  readonly numbers: readonly NodeNumber[];
  readonly #clients: ReadonlyMap<NodeNumber, pg.Client>;

  private constructor(clients: ReadonlyMap<NodeNumber, pg.Client>) {
    this.#clients = clients;
    this.numbers = [...clients.keys()];
  }

  static async open(nodes: readonly ClusterNode[], numbers: readonly NodeNumber[]): Promise<Members> {
    const named = numbers.map((number) => {
      const node = nodes.find((one) => one.number === number);
      if (node === undefined)
        throw new PgquorumError('not_ready', `member ${number} is not among the nodes that are known here`);
      return node;
    });
    const opened = await Promise.allSettled(
      named.map((node) =>
        connect(node.address, { application: 'pgquorum folding', connectTimeoutMs: 2000, answerWithinMs }),
      ),
    );
    const clients = new Map<NodeNumber, pg.Client>();
    for (const [at, one] of opened.entries())
      if (one.status === 'fulfilled') clients.set(named[at]!.number, one.value);
    const members = new Members(clients);
    const failed = opened.find((one) => one.status === 'rejected');
    if (failed === undefined) return members;
    await members.close();
    throw failed.reason;
  }

  /** Of each key what each member has seen; nothing of a key that it does not have. Each statement sees what is committed, and durable: sessions of ours commit so. */
  async look(table: CollectionTable, keys: readonly string[]): Promise<Looks[]> {
    const found = keys.map(() => new Map<NodeNumber, Clock>(this.numbers.map((number) => [number, {}])));
    await this.#all(async (client, number) => {
      const { rows } = await client.query<SeenRow>(seenSql(table), keyArrays(table, keys));
      for (const row of rows) {
        if (row.number !== (number as number))
          throw new PgquorumError('node_misfit', `node ${number} says that it is node ${row.number}`);
        found[row.place - 1]!.set(number, row.seen);
      }
    });
    return found;
  }

  async remember(options: RememberOptions): Promise<void> {
    await this.#all((client) => remember(client, options));
  }

  /** Waits for all, so that no statement is under way when this is closed. */
  async #all(work: (client: pg.Client, number: NodeNumber) => Promise<void>): Promise<void> {
    const done = await Promise.allSettled([...this.#clients].map(([number, client]) => work(client, number)));
    const failed = done.find((one) => one.status === 'rejected');
    if (failed === undefined) return;
    throw isConnectionError(failed.reason)
      ? new PgquorumError('node_unreachable', 'a member was lost while increments were folded', {
          cause: failed.reason,
        })
      : failed.reason;
  }

  async close(): Promise<void> {
    await Promise.all([...this.#clients.values()].map(closeClient));
  }
}
