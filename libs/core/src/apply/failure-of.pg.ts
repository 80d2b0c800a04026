/**
 * What an error of an apply session means. A trigger or a foreign table may say that some other connection was lost, with the very SQLSTATE that a
 * server uses when ours is: only asking tells. A collection that fails so is in its own way, and must not hold up those beside it. A session that
 * began while its database took no writes keeps to that for ever: it has to be made anew.
 */
import { sqlStateOf } from '../postgres/sqlstate.ts';
import { classifyFailure, type Failure } from './failure.ts';
import type { ApplySession } from './session.pg.ts';

const readOnly = '25006';

export async function failureOf(session: ApplySession | null, error: unknown): Promise<Failure> {
  const failure = classifyFailure(error);
  const sqlstate = sqlStateOf(error);
  if (sqlstate === null || session === null) return failure;
  if (failure.kind !== 'connection' && sqlstate !== readOnly) return failure;
  try {
    const { rows } = await session.client.query<{ read_only: string }>(
      `select current_setting('transaction_read_only') as read_only`,
    );
    if (sqlstate === readOnly) return rows[0]!.read_only === 'on' ? { kind: 'connection' } : failure;
  } catch {
    return { kind: 'connection' };
  }
  return { kind: 'retry', code: 'internal', sqlstate, message: (error as Error).message };
}
