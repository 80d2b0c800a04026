/**
 * What to do about a database error while applying: one table, by SQLSTATE. Pure.
 * - retry: it passes by itself (a deadlock, a restart, a lock held by a user);
 * - wait-for-other: a unique or foreign-key violation whose other row may be on its way; poison when it does not come in time;
 * - operator: nothing helps until someone acts (schema differs, disk full, no permission): the collection is paused;
 * - poison: this change can not be applied here: it goes to the dead letters.
 */
import { isPgquorumError } from '../errors/error.ts';

export type ErrorClass = 'retry' | 'wait-for-other' | 'operator' | 'poison';

const byState: Readonly<Record<string, ErrorClass>> = {
  '40001': 'retry', // serialization_failure
  '40P01': 'retry', // deadlock_detected
  '55P03': 'retry', // lock_not_available
  '57014': 'retry', // query_canceled
  '57P01': 'retry', // admin_shutdown
  '57P02': 'retry', // crash_shutdown
  '57P03': 'retry', // cannot_connect_now
  '57P05': 'retry', // idle_session_timeout
  '25006': 'retry', // read_only_sql_transaction
  '25P03': 'retry', // idle_in_transaction_session_timeout
  '55006': 'retry', // object_in_use
  '55000': 'retry', // object_not_in_prerequisite_state
  '3B001': 'retry', // invalid savepoint after a lost transaction
  '23505': 'wait-for-other', // unique_violation
  '23503': 'wait-for-other', // foreign_key_violation
  '23P01': 'wait-for-other', // exclusion_violation
  '42P01': 'operator', // undefined_table
  '42703': 'operator', // undefined_column
  '42704': 'operator', // undefined_object
  '42804': 'operator', // datatype_mismatch
  '42883': 'operator', // undefined_function
  '42P10': 'operator', // invalid_column_reference: no arbiter for on conflict
  '42501': 'operator', // insufficient_privilege
  '428C9': 'operator', // generated_always
  '3F000': 'operator', // invalid_schema_name
};

const byClass: Readonly<Record<string, ErrorClass>> = {
  '08': 'retry', // connection exception
  '53': 'operator', // insufficient resources: disk full, out of memory
  '57': 'retry', // operator intervention
  '58': 'operator', // system error
  '42': 'operator', // syntax error or access rule violation
  '28': 'operator', // invalid authorization
  '3D': 'operator', // invalid catalog name
  '0A': 'operator', // feature not supported
  '22': 'poison', // data exception
  '23': 'poison', // integrity constraint violation: check, not null
  '44': 'poison', // with check option violation
  P0: 'poison', // raised by a user's trigger
  '54': 'poison', // program limit exceeded
  XX: 'operator', // internal error: data or index corrupted
};

/** Too many connections passes by itself, unlike its class. */
const tooManyConnections = '53300';

export function classifySqlState(sqlstate: string): ErrorClass {
  if (sqlstate === tooManyConnections) return 'retry';
  return byState[sqlstate] ?? byClass[sqlstate.slice(0, 2)] ?? 'operator';
}

/** The SQLSTATE of a driver's error, or null when the error came from the network (EPIPE has five letters too) or from our own code. */
export function sqlStateOf(error: unknown): string | null {
  const code = (error as { code?: unknown } | null)?.code;
  return typeof code === 'string' && /^(?!E[A-Z]{4})[0-9A-Z]{5}$/.test(code) ? code : null;
}

const networkCodes: ReadonlySet<string> = new Set([
  'ECONNREFUSED',
  'ECONNRESET',
  'EPIPE',
  'ETIMEDOUT',
  'EHOSTUNREACH',
  'ENETUNREACH',
  'ENOTFOUND',
  'EAI_AGAIN',
  'ENOENT',
  'ECONNABORTED',
]);

/** Was the connection lost, or could it not be made? */
export function isConnectionError(error: unknown): boolean {
  const sqlstate = sqlStateOf(error);
  if (sqlstate !== null)
    return (
      sqlstate.startsWith('08') ||
      ['57P01', '57P02', '57P03', '25P03', '57P05', tooManyConnections].includes(sqlstate)
    );
  const code = (error as { code?: unknown } | null)?.code;
  if (typeof code === 'string' && networkCodes.has(code)) return true;
  if (error instanceof AggregateError) return error.errors.some(isConnectionError);
  return (
    error instanceof Error &&
    /connection (terminated|ended|closed)|client (has encountered a connection error|was closed)|timeout expired|not queryable/i.test(
      error.message,
    )
  );
}

/** The same, also of what `connect` and others have said in our own words. */
export const isUnreachable = (error: unknown): boolean =>
  isPgquorumError(error) ? error.code === 'node_unreachable' : isConnectionError(error);
