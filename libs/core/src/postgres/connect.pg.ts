/** Connections to nodes. Every session of ours commits durably (`synchronous_commit = on`): what it acknowledges or reads on must not vanish. */
import pg from 'pg';
import type { NodeAddress } from '../config/settings.ts';
import { PgquorumError } from '../errors/error.ts';
import { delayedSocketsOf } from '../faults/delays.process.ts';
import { writeAtOnce } from './one-write.pg.ts';
import { isConnectionError } from './sqlstate.ts';

export interface ConnectOptions {
  readonly application: string;
  /** Sends statements without waiting for the answers of those before. */
  readonly pipeline?: boolean;
  readonly connectTimeoutMs?: number;
  /** Longest time that any statement may take until its answer: a master that fell silent (a cut cable, a frozen machine) sends no error. */
  readonly answerWithinMs?: number;
  /** Leaves all settings as the server has them for others: to look at them, and since poolers refuse to pass them on. Nothing is written so. */
  readonly plain?: boolean;
  /** Speaks the replication protocol, in the database. */
  readonly replication?: boolean;
}

/** Formats are pinned: what one session makes text of (a losing row, a key) must be the same text on every master. */
const sessionOptions =
  '-c synchronous_commit=on -c idle_in_transaction_session_timeout=60000 -c datestyle=ISO -c intervalstyle=postgres -c extra_float_digits=1 -c timezone=UTC -c bytea_output=hex';

export function clientConfig(node: Pick<NodeAddress, 'url'>, options: ConnectOptions): pg.ClientConfig {
  const delayed = delayedSocketsOf(options.application);
  return {
    connectionString: node.url,
    application_name: options.application,
    connectionTimeoutMillis: options.connectTimeoutMs ?? 5000,
    keepAlive: true,
    keepAliveInitialDelayMillis: 10_000,
    ...(delayed === null ? {} : { stream: delayed }),
    ...(options.plain ? {} : { options: sessionOptions }),
    ...(options.replication ? { replication: 'database' } : {}),
    ...(options.answerWithinMs === undefined ? {} : { query_timeout: options.answerWithinMs }),
    ...(options.pipeline ? { pipeline: true } : {}),
  };
}

/** An open connection whose loss shows in the next query, never as an unhandled event. */
export async function connect(
  node: Pick<NodeAddress, 'url'> & { readonly name?: string },
  options: ConnectOptions,
): Promise<pg.Client> {
  const client = new pg.Client(clientConfig(node, options));
  client.on('error', () => undefined); // the query that notices it rejects
  try {
    await client.connect();
  } catch (cause) {
    await client.end().catch(() => undefined); // it never opened
    if (isConnectionError(cause))
      throw new PgquorumError(
        'node_unreachable',
        `node ${node.name ?? 'unnamed'}: ${(cause as { code?: string }).code ?? 'no connection'}`,
        { cause },
      );
    throw cause;
  }
  if (options.pipeline === true) writeAtOnce(client);
  return client;
}

/** Ends a connection, also one whose other side does not answer any more: it is given a second to say good-bye. */
export async function closeClient(client: pg.Client): Promise<void> {
  const socket = (client as unknown as { connection: { stream: { destroy(): void } } }).connection.stream;
  const hurry = setTimeout(() => socket.destroy(), 1000);
  await client.end().catch(() => undefined); // it may be lost already
  clearTimeout(hurry);
}

/** Work on a connection of its own, which does not outlive it. */
export async function withConnection<T>(
  node: Parameters<typeof connect>[0],
  options: ConnectOptions,
  work: (client: pg.Client) => Promise<T>,
): Promise<T> {
  const client = await connect(node, options);
  try {
    return await work(client);
  } finally {
    await closeClient(client);
  }
}

export function createPool(node: NodeAddress, options: ConnectOptions & { readonly max: number }): pg.Pool {
  const pool = new pg.Pool({ ...clientConfig(node, options), max: options.max, idleTimeoutMillis: 30_000 });
  pool.on('error', () => undefined); // an idle connection was lost: the pool makes a new one
  if (options.pipeline === true) pool.on('connect', writeAtOnce);
  pool.on('connect', (client) => client.on('error', () => undefined)); // lost while someone has it: his next statement rejects
  return pool;
}

/** Runs `work` in one READ COMMITTED transaction on a pool's connection; a connection that fails is not given back. */
export async function inTransaction<T>(
  pool: pg.Pool,
  work: (client: pg.PoolClient) => Promise<T>,
): Promise<T> {
  const client = await pool.connect();
  let failed: unknown = null;
  try {
    await client.query('begin isolation level read committed');
    const result = await work(client);
    await client.query('commit');
    return result;
  } catch (cause) {
    failed = cause;
    await client.query('rollback').catch((lost: unknown) => {
      failed = lost;
    });
    throw cause;
  } finally {
    client.release(failed !== null && isConnectionError(failed));
  }
}
