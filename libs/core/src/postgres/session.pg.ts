/**
 * One connection of a pool for the time of a piece of work, bounded by a deadline. What is still running when it passes is cut off together with its
 * connection, so that the server rolls it back; a commit that was sent before may stand.
 */
import { performance } from 'node:perf_hooks';
import type pg from 'pg';
import { PgquorumError } from '../errors/error.ts';
import { timeOver, type Deadline } from './deadline.ts';
import { isConnectionError } from './sqlstate.ts';

export const deadlineIn = (timeoutMs: number, signal?: AbortSignal): Deadline => ({
  atMs: performance.now() + timeoutMs,
  timeoutMs,
  ...(signal ? { signal } : {}),
});

export const remainingMs = (deadline: Deadline): number => Math.max(0, deadline.atMs - performance.now());

/** Waits no longer than until the deadline; what is waited for goes on. */
export async function within<T>(deadline: Deadline, work: Promise<T>): Promise<T> {
  let end = (): void => undefined;
  const over = new Promise<never>((_, reject) => {
    end = () => reject(timeOver(deadline));
  });
  const timer = setTimeout(end, remainingMs(deadline));
  deadline.signal?.addEventListener('abort', end, { once: true });
  if (deadline.signal?.aborted === true) end();
  try {
    return await Promise.race([work, over]);
  } finally {
    clearTimeout(timer);
    deadline.signal?.removeEventListener('abort', end);
  }
}

/** The pool's own message when all its connections stay busy for too long. */
const poolExhausted = /timeout exceeded when trying to connect/i;

export interface SessionOptions {
  readonly pool: pg.Pool;
  readonly deadline: Deadline;
  /** Registers what cuts the work off; returns what unregisters it. Called when the node was found to be gone. */
  readonly onLost?: (cut: () => void) => () => void;
}

export async function withSession<T>(
  options: SessionOptions,
  work: (client: pg.PoolClient) => Promise<T>,
): Promise<T> {
  const { pool, deadline } = options;
  const client = await checkOut(pool, deadline);
  let cutOff: PgquorumError | null = null;
  const cut = (reason: PgquorumError): void => {
    if (cutOff !== null) return;
    cutOff = reason;
    destroySocket(client);
  };
  const onAbort = () => cut(new PgquorumError('timeout', 'the caller gave up'));
  const timer = setTimeout(() => cut(timeOver(deadline)), remainingMs(deadline));
  const unregister = options.onLost?.(() =>
    cut(new PgquorumError('node_unreachable', 'the node stopped answering')),
  );
  deadline.signal?.addEventListener('abort', onAbort, { once: true });
  let broken = false;
  try {
    if (deadline.signal?.aborted === true) onAbort();
    return await work(client);
  } catch (cause) {
    broken = cutOff !== null || isConnectionError(cause);
    throw cutOff ?? cause;
  } finally {
    clearTimeout(timer);
    unregister?.();
    deadline.signal?.removeEventListener('abort', onAbort);
    client.release(broken || cutOff !== null);
  }
}

async function checkOut(pool: pg.Pool, deadline: Deadline): Promise<pg.PoolClient> {
  const left = remainingMs(deadline);
  if (left <= 0) throw timeOver(deadline);
  const connecting = pool.connect();
  let timer: NodeJS.Timeout | undefined;
  const expiry = new Promise<'over'>((resolve) => {
    timer = setTimeout(() => resolve('over'), left);
  });
  try {
    const first = await Promise.race([connecting, expiry]);
    if (first !== 'over') return first;
    void connecting.then(
      (late) => late.release(),
      () => undefined, // nobody waits for it any more
    );
    throw timeOver(deadline);
  } catch (cause) {
    if (cause instanceof Error && poolExhausted.test(cause.message))
      throw new PgquorumError('overloaded', 'all connections to the node are busy', { cause });
    throw cause;
  } finally {
    clearTimeout(timer);
  }
}

/** `end()` would wait for the answers of what was sent, which may never come. */
export function destroySocket(client: pg.ClientBase): void {
  (client as unknown as { connection: { stream: { destroy(): void } } }).connection.stream.destroy();
}
