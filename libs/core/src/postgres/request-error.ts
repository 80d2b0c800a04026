/** A database error that ends a request -> the error that its caller gets. Never holds row data: Postgres quotes rows in `detail`, so that is left out. Pure. */
import type { ErrorCode } from '../errors/codes.ts';
import { isPgquorumError, PgquorumError } from '../errors/error.ts';
import { crdtSqlStates } from '../versioning/crdt/operation.ts';
import { sqlStateOf } from './sqlstate.ts';

interface DatabaseError {
  readonly message: string;
  readonly constraint?: string;
  readonly routine?: string;
}

const unstorable = 'a text has a character that the database can not hold';

/** By functions and triggers of ours. */
const raised: Readonly<Record<string, readonly [code: ErrorCode, detail: string]>> = {
  PQ002: ['vector_not_found', 'there is no such row on this node'],
  PQ007: ['version_missing', 'the row has no version'],
  PQ020: ['stale_shard_map', 'the node does not hold the shard under the epoch that was asked for'],
  PQ021: ['shard_elsewhere', 'the shard is not held by the node that was written to'],
  PQ010: ['model_unknown', 'model: the collection does not list it'],
  PQ011: ['model_outdated', 'the vector has an embedding of a later model'],
};

export function requestError(cause: unknown, collection?: string): unknown {
  if (isPgquorumError(cause)) return cause;
  const sqlstate = sqlStateOf(cause);
  if (sqlstate === null) return cause;
  const { message, constraint } = cause as DatabaseError;
  const make = (...[code, detail]: readonly [code: ErrorCode, detail: string]) =>
    new PgquorumError(code, detail, { cause });
  switch (sqlstate) {
    case '57014':
      return make('timeout', 'the database did not finish in time');
    case '55P03':
      return make('timeout', 'a lock was not released in time');
    case '40P01':
    case '40001':
      return make('overloaded', 'the rows are being written by others all the time');
    case '42P01':
      return collection === undefined ? cause : make('collection_not_found', `collection ${collection}`);
    case '22000':
    case '22026':
      // pgvector's own check, or Postgres's of bits; the collection was made anew with another dimension in this moment.
      return sqlstate === '22026' || /^(expected|different) .*(dimensions|bit lengths)/.test(message)
        ? make('dimension_mismatch', 'embedding: has another dimension than the collection')
        : cause;
    case '54000':
      // An index of the users' own, which the collection's definition does not know.
      return /non-zero elements/.test(message)
        ? make(
            'invalid_vector',
            'embedding: has more elements that are not zero than an index of the table holds',
          )
        : cause;
    // Halves of surrogate pairs, and NUL: JavaScript and JSON have them, jsonb and text do not.
    case '22021':
    case '22P05':
      return make('invalid_request', unstorable);
    case '22P02':
      return message.startsWith('invalid input syntax for type json')
        ? make('invalid_request', unstorable)
        : cause;
    case 'PQ001':
      return make('collection_not_found', collection === undefined ? message : `collection ${collection}`);
    default:
  }
  const own = raised[sqlstate];
  if (own !== undefined) return make(...own);
  // Our own functions raise these, with the field and what is wrong.
  const crdtCode = crdtSqlStates[sqlstate];
  if (crdtCode !== undefined) return make(crdtCode, message);
  if (sqlstate.startsWith('23'))
    return make(
      'constraint_violated',
      constraint === undefined ? `SQLSTATE ${sqlstate}` : `constraint ${constraint} (SQLSTATE ${sqlstate})`,
    );
  if (sqlstate.startsWith('P0'))
    return make('constraint_violated', `a trigger of the table refused it (SQLSTATE ${sqlstate})`);
  return cause;
}

/** The statement found another table than the one it was made for. */
export const isStaleDefinition = (cause: unknown): boolean =>
  ['42P01', '42703', '22000', '22026', '0A000', '42804'].includes(sqlStateOf(cause) ?? '');

/** A write named an embedding model before the one that its key has. */
export const isLaterModel = (cause: unknown): boolean => sqlStateOf(cause) === 'PQ011';

/** The node is no replica of the shard, or one of another epoch. */
export const isStaleMap = (cause: unknown): boolean =>
  sqlStateOf(cause) === 'PQ020' || (isPgquorumError(cause) && cause.code === 'stale_shard_map');

/** Passes by itself when tried again at once. */
export const isTransient = (cause: unknown): boolean => ['40P01', '40001'].includes(sqlStateOf(cause) ?? '');
