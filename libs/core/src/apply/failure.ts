/** What an apply failure means for the batch that met it. Pure: one table for driver errors (sqlstate.ts) and our own. */
import { PgquorumError } from '../errors/error.ts';
import { classifySqlState, isConnectionError, sqlStateOf, type ErrorClass } from '../postgres/sqlstate.ts';
import { LocalWriteSlippedIn, ShardRolesChanged, UnversionedRows } from './outcomes.ts';

const uniqueViolation = '23505';

export type Failure =
  | { readonly kind: 'connection' }
  | { readonly kind: 'unversioned'; readonly rows: UnversionedRows }
  | {
      readonly kind: ErrorClass;
      readonly code: string;
      readonly sqlstate: string | null;
      readonly message: string;
      /** Of the database's answer, where a constraint is in the way. */
      readonly constraint?: string | null;
    }
  /** Not an answer of the database: a bug or a broken invariant. The replicator stops rather than guess. */
  | { readonly kind: 'fatal'; readonly error: unknown };

export function classifyFailure(error: unknown): Failure {
  if (error instanceof LocalWriteSlippedIn || error instanceof ShardRolesChanged)
    return { kind: 'retry', code: 'local_write', sqlstate: null, message: error.message };
  if (error instanceof UnversionedRows) return { kind: 'unversioned', rows: error };
  if (error instanceof PgquorumError) {
    if (error.code === 'schema_drift' || error.code === 'stale_shard_map')
      return { kind: 'operator', code: error.code, sqlstate: null, message: error.detail };
    if (error.code === 'node_unreachable') return { kind: 'connection' };
    return { kind: 'fatal', error };
  }
  if (isConnectionError(error)) return { kind: 'connection' };
  const sqlstate = sqlStateOf(error);
  if (sqlstate === null) return { kind: 'fatal', error };
  const kind = classifySqlState(sqlstate);
  return {
    kind,
    code: kind === 'operator' ? 'schema_drift' : 'internal',
    sqlstate,
    message: (error as Error).message,
    ...(sqlstate === uniqueViolation
      ? { constraint: (error as { constraint?: string }).constraint ?? null }
      : {}),
  };
}
