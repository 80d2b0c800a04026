/**
 * The registry of error codes: what HTTP and gRPC answer, whether a retry can help, and a paragraph for the operator.
 * A code is stable for ever; its texts may improve. docs/errors.md is this table.
 */
import { entry, type CodeEntry } from './code-entry.ts';
import { vectorCodes } from './vector-codes.ts';

export type { CodeEntry, GrpcStatus } from './code-entry.ts';

export const errorCodes = {
  // requests
  malformed_json: entry(
    400,
    'INVALID_ARGUMENT',
    false,
    'The body is not valid JSON',
    'Send a JSON document with content-type application/json.',
  ),
  unsupported_media_type: entry(
    415,
    'INVALID_ARGUMENT',
    false,
    'The content type is not supported',
    'Send application/json.',
  ),
  invalid_request: entry(
    400,
    'INVALID_ARGUMENT',
    false,
    'The request is not valid',
    'The detail names the field and what is wrong with it.',
  ),
  unknown_field: entry(
    400,
    'INVALID_ARGUMENT',
    false,
    'The request has a field that is not known',
    'Remove the field that the detail names, or correct its spelling.',
  ),
  invalid_name: entry(
    400,
    'INVALID_ARGUMENT',
    false,
    'The name is not allowed',
    'Collections match ^[a-z][a-z0-9_]{0,47}$.',
  ),
  body_too_large: entry(
    413,
    'RESOURCE_EXHAUSTED',
    false,
    'The body is too large',
    'Send smaller batches, or raise PGQUORUM_BODY_BYTES_MAX.',
  ),
  batch_too_large: entry(
    413,
    'RESOURCE_EXHAUSTED',
    false,
    'The batch has too many items',
    'Send smaller batches, or raise PGQUORUM_BATCH_ITEMS_MAX.',
  ),
  route_not_found: entry(
    404,
    'NOT_FOUND',
    false,
    'There is no such route',
    'See the list of routes in the README.',
  ),
  host_not_allowed: entry(
    403,
    'PERMISSION_DENIED',
    false,
    'The request comes from a foreign page or host name',
    'Without API keys only requests addressed to the loopback host, and from its own pages, are answered.',
  ),
  unauthenticated: entry(
    401,
    'UNAUTHENTICATED',
    false,
    'An API key is needed',
    'Send one of PGQUORUM_API_KEYS as "authorization: Bearer <key>" or "x-api-key".',
  ),
  // collections
  collection_not_found: entry(
    404,
    'NOT_FOUND',
    false,
    'There is no such collection',
    'Create it with PUT /v1/collections/{name}.',
  ),
  collection_exists: entry(
    409,
    'ALREADY_EXISTS',
    false,
    'The collection exists with a different definition',
    'Read its definition with GET, or choose another name.',
  ),
  table_exists: entry(
    409,
    'ALREADY_EXISTS',
    false,
    'A table with this name exists and is not a collection',
    'Choose another name.',
  ),
  resolver_missing: entry(
    400,
    'INVALID_ARGUMENT',
    false,
    'The resolver of the collection is missing or cannot be loaded',
    'Name a function that exists on every node (sql:schema.function) or a module in the folder of resolvers (module:file).',
  ),
  models_not_extended: entry(
    409,
    'FAILED_PRECONDITION',
    false,
    'The list of models is not an extension of the old one',
    'Versions carry the places of their models: only append to the list.',
  ),
  crdt_field_fixed: entry(
    409,
    'FAILED_PRECONDITION',
    false,
    'A CRDT field cannot change its type',
    'Add a field with another name.',
  ),
  dimension_not_indexable: entry(
    400,
    'INVALID_ARGUMENT',
    false,
    'The index cannot hold vectors of this dimension',
    'Use halfvec up to 4000 dimensions, or index {"type": "none"}.',
  ),
  not_supported: entry(
    501,
    'UNIMPLEMENTED',
    false,
    'This is not supported by this version',
    'The detail says what is.',
  ),
  // vectors
  ...vectorCodes,
  // conflicts
  conflict_not_found: entry(
    404,
    'NOT_FOUND',
    false,
    'There is no such conflict record',
    'List them with GET /v1/conflicts.',
  ),
  conflict_not_resolvable: entry(
    409,
    'FAILED_PRECONDITION',
    false,
    'The conflict can not be resolved so',
    'The key has no row here that could be kept: give the embedding, or restore a losing row.',
  ),
  conflict_not_restorable: entry(
    409,
    'FAILED_PRECONDITION',
    false,
    'The record can not be restored',
    'The table has changed since: it lacks a column that the losing row has.',
  ),
  // availability
  replicas_unavailable: entry(
    503,
    'UNAVAILABLE',
    true,
    'Not enough live replicas',
    'Nothing was written. See GET /v1/cluster/nodes and try again.',
  ),
  stale_shard_map: entry(503, 'UNAVAILABLE', true, 'The shard map changed', 'Try again.'),
  timeout: entry(
    504,
    'DEADLINE_EXCEEDED',
    true,
    'The time for this request is over',
    'Try again with a larger timeoutMs.',
  ),
  write_outcome_unknown: entry(
    504,
    'DEADLINE_EXCEEDED',
    true,
    'The connection was lost while committing',
    'The write may stand. Repeating it with the same Idempotency-Key is safe.',
  ),
  overloaded: entry(
    503,
    'UNAVAILABLE',
    true,
    'Too many requests at once',
    'Try again after the time in Retry-After.',
  ),
  not_ready: entry(
    503,
    'UNAVAILABLE',
    true,
    'The service is not ready',
    'The detail says what it waits for.',
  ),
  shutting_down: entry(503, 'UNAVAILABLE', true, 'The service is stopping', 'Try another gateway.'),
  // operating
  settings_invalid: entry(
    500,
    'FAILED_PRECONDITION',
    false,
    'The settings are not valid',
    'Each mistake is named; see docs/settings.md.',
  ),
  schema_newer: entry(
    500,
    'FAILED_PRECONDITION',
    false,
    'The database has a newer schema than this program',
    'Run the newer program: older code would not keep the newer schema right.',
  ),
  migration_failed: entry(
    500,
    'FAILED_PRECONDITION',
    false,
    'A migration failed',
    "Nothing of it was kept. The detail names the statement's error.",
  ),
  node_unreachable: entry(
    503,
    'UNAVAILABLE',
    true,
    'A node cannot be reached',
    'Check its address and that it is up.',
  ),
  node_misfit: entry(
    500,
    'FAILED_PRECONDITION',
    false,
    'A node does not fit this cluster',
    'The detail says what differs.',
  ),
  preflight_failed: entry(
    500,
    'FAILED_PRECONDITION',
    false,
    'A database lacks something that replication needs',
    'The detail has the statement that mends it.',
  ),
  position_lost: entry(
    500,
    'FAILED_PRECONDITION',
    false,
    'A position in a change log is no longer held',
    'The node has to be resynchronised.',
  ),
  slot_in_use: entry(
    503,
    'UNAVAILABLE',
    true,
    'Another replicator reads this slot',
    'It takes over when the other one ends.',
  ),
  schema_drift: entry(
    500,
    'FAILED_PRECONDITION',
    false,
    'A table differs between masters',
    'The detail names the table and the column; alter the table to match.',
  ),
  // the embedded cluster
  postgres_missing: entry(
    500,
    'FAILED_PRECONDITION',
    false,
    'No Postgres with pgvector can be had',
    'The detail lists what was tried and the one thing to install.',
  ),
  embedded_failed: entry(
    500,
    'INTERNAL',
    false,
    'An embedded master cannot be run',
    'The detail says what Postgres answered and where its log is.',
  ),
  already_running: entry(
    500,
    'FAILED_PRECONDITION',
    false,
    'This data folder is in use by a running cluster',
    'Stop the other one first, or set another PGQUORUM_DATA_DIR.',
  ),
  invariant_broken: entry(
    500,
    'INTERNAL',
    false,
    'An invariant of replication does not hold',
    'The process stops rather than let masters diverge. Please report it with the log.',
  ),
  internal: entry(
    500,
    'INTERNAL',
    false,
    'Something went wrong',
    'The log has the details under the requestId.',
  ),
} as const satisfies Record<string, CodeEntry>;

export type ErrorCode = keyof typeof errorCodes;
