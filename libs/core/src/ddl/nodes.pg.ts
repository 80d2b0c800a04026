/** Connections to all masters for one statement. Who runs it may die: its servers notice, and roll back or end what it had begun. */
import type pg from 'pg';
import { isPgquorumError, PgquorumError } from '../errors/error.ts';
import type { JobNode } from '../jobs/job.ts';
import { closeClient, connect } from '../postgres/connect.pg.ts';
import { sqlStateOf } from '../postgres/sqlstate.ts';

export interface OpenNode {
  readonly name: string;
  readonly number: number;
  readonly client: pg.Client;
}

export interface Place {
  readonly open: readonly OpenNode[];
  /** Set while some commits may have been made and others not: that is finished, whoever wants the end. */
  committing: boolean;
}

/** Runs with a connection to each; none of them outlives it, nor the signal. */
export async function withNodes<T>(
  nodes: readonly JobNode[],
  signal: AbortSignal,
  work: (place: Place) => Promise<T>,
): Promise<T> {
  const open: OpenNode[] = [];
  const closeAll = (): Promise<unknown> => Promise.all(open.map(({ client }) => closeClient(client)));
  const place: Place = { open, committing: false };
  const onAbort = (): void => {
    if (!place.committing) void closeAll();
  };
  try {
    for (const { name, number, address } of nodes) {
      const client = await connect(address, { application: 'pgquorum ddl' }).catch((cause: unknown) => {
        throw isPgquorumError(cause) && cause.code === 'node_unreachable'
          ? new PgquorumError('replicas_unavailable', `${cause.detail}; the statement needs every master`, {
              cause,
            })
          : cause;
      });
      open.push({ name, number, client });
      await client.query('set client_connection_check_interval = 500').catch((cause: unknown) => {
        if (sqlStateOf(cause) === null) throw cause; // a platform that can not tell
      });
    }
    signal.addEventListener('abort', onAbort, { once: true });
    signal.throwIfAborted();
    return await work(place);
  } catch (cause) {
    signal.throwIfAborted();
    throw cause;
  } finally {
    signal.removeEventListener('abort', onAbort);
    await closeAll();
  }
}

/** Of rows nothing is shown: a refusal that is about values says its SQLSTATE only. */
export function failedOn(node: string, cause: unknown): string {
  const sqlstate = sqlStateOf(cause);
  if (sqlstate === null)
    return `${node}: ${isPgquorumError(cause) ? cause.detail : 'the connection was lost'}`;
  return /^(22|23|P0)/.test(sqlstate)
    ? `${node}: rows there are in the way (SQLSTATE ${sqlstate})`
    : `${node}: ${(cause as Error).message} (SQLSTATE ${sqlstate})`;
}
