/** Until when a request may take. Times are of a monotonic clock that the caller reads. Pure. */
import { PgquorumError } from '../errors/error.ts';

export interface Deadline {
  readonly atMs: number;
  readonly timeoutMs: number;
  /** Aborted when the caller is gone: a cancelled call, a closed connection. */
  readonly signal?: AbortSignal;
}

export const timeOver = (deadline: Deadline): PgquorumError =>
  new PgquorumError('timeout', `the request was not done within ${deadline.timeoutMs} ms`);
