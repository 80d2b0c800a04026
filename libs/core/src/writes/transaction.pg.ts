/**
 * One node's part of a write: one transaction, everything up to the commit sent at once, then the commit. `progress.commitSent` tells a caller that
 * lost the connection whether the write may stand.
 */
import type pg from 'pg';
import type { CollectionTable, VectorType } from '../collections/definition.ts';
import { PgquorumError } from '../errors/error.ts';
import { arrayOf, jsonbArray, textArray } from '../postgres/binary-array.ts';
import { isConnectionError, sqlStateOf } from '../postgres/sqlstate.ts';
import type { VersionColumns } from '../versioning/version-view.ts';
import type { WriteItem } from './item.ts';
import {
  deleteStatement,
  lockRowsStatement,
  requestStatement,
  upsertStatement,
  versionsStatement,
  type NamedStatement,
} from './statements.ts';

export interface RequestIdentity {
  /** A uuid. */
  readonly id: string;
  /** Set when the user gave an idempotency key: the write is done once however often it is asked for. */
  readonly bodyHash: string | null;
}

export interface CommitProgress {
  commitSent: boolean;
}

export interface WrittenKey extends VersionColumns {
  readonly id: string;
}

/** A write of this request that was found done. Without hlc and clock when it has been replaced since. */
export interface RecordedKey {
  readonly id: string;
  readonly origin: number;
  readonly counter: string;
  readonly hlc: string | null;
  readonly clock: VersionColumns['clock'] | null;
}

export interface NodeOutcome {
  readonly written: ReadonlyMap<string, WrittenKey>;
  readonly recorded: ReadonlyMap<string, RecordedKey>;
}

interface TransactionOptions {
  readonly client: pg.PoolClient;
  readonly table: CollectionTable;
  readonly request: RequestIdentity;
  readonly timeoutMs: number;
  readonly progress: CommitProgress;
}

const byBytes = (a: string, b: string): number => Buffer.compare(Buffer.from(a), Buffer.from(b));

const run = <R extends pg.QueryResultRow>(
  client: pg.PoolClient,
  prepared: NamedStatement,
  values: unknown[],
) => client.query<R>({ ...prepared, values });

/** Waits for all, so that no answer is left on the connection, then fails with the first failure. */
async function inOrder<T extends readonly Promise<unknown>[]>(
  sent: [...T],
): Promise<{ [K in keyof T]: Awaited<T[K]> }> {
  const settled = await Promise.allSettled(sent);
  for (const one of settled as PromiseSettledResult<unknown>[])
    if (one.status === 'rejected') throw one.reason;
  return settled.map((one) => (one as PromiseFulfilledResult<unknown>).value) as {
    [K in keyof T]: Awaited<T[K]>;
  };
}

async function inWriteTransaction(
  options: TransactionOptions,
  keys: readonly string[],
  work: (keys: readonly string[]) => Promise<WrittenKey[]>,
): Promise<NodeOutcome> {
  const { client, request, timeoutMs, progress } = options;
  try {
    const begin = client.query(
      `begin isolation level read committed; set local pgquorum.request = '${uuidText(request.id)}'; set local statement_timeout = ${Math.max(1, Math.ceil(timeoutMs))}; set local idle_in_transaction_session_timeout = ${Math.max(1, Math.ceil(timeoutMs)) + 1000}`,
    );
    const recorded =
      request.bodyHash === null
        ? new Map<string, RecordedKey>()
        : (await inOrder([begin, recall(options, keys)]))[1];
    const missing = keys.filter((key) => !recorded.has(key)).toSorted(byBytes);
    const written = missing.length === 0 ? [] : (await inOrder([begin, work(missing)]))[1];
    await begin;
    progress.commitSent = true;
    const committed = await client.query('commit');
    if (committed.command !== 'COMMIT')
      throw new PgquorumError('internal', 'the transaction was rolled back instead of committed');
    return { written: new Map(written.map((row) => [row.id, row])), recorded };
  } catch (cause) {
    // An answer of the server other than its going away says that it did not commit.
    if (sqlStateOf(cause) !== null && !isConnectionError(cause)) progress.commitSent = false;
    if (!progress.commitSent) await client.query('rollback').catch(() => undefined); // the connection may be what failed; it is not used again then
    throw cause;
  }
}

/** What this request wrote here before. The lock makes a repeat that runs at the same time wait for the first to end. */
async function recall(
  { client, table, request }: TransactionOptions,
  keys: readonly string[],
): Promise<Map<string, RecordedKey>> {
  const high = BigInt.asIntN(64, BigInt(`0x${request.id.replaceAll('-', '').slice(0, 16)}`));
  const [, , found] = await inOrder([
    client.query('select pg_advisory_xact_lock($1::bigint)', [String(high)]),
    client.query(
      'insert into pgquorum.gateway_request (request, body_hash) values ($1, $2) on conflict do nothing',
      [request.id, request.bodyHash],
    ),
    run<RecordedKey>(client, requestStatement(table), [table.collection, request.id, textArray(keys)]),
  ]);
  return new Map(found.rows.map((row) => [row.id, row]));
}

function uuidText(id: string): string {
  if (!/^[0-9a-f-]{36}$/.test(id)) throw new PgquorumError('internal', 'a request id is no uuid');
  return id;
}

export interface UpsertOptions extends TransactionOptions {
  readonly vectorType: VectorType;
  readonly vectorOid: number;
  readonly items: readonly WriteItem[];
}

export function upsertOn(options: UpsertOptions): Promise<NodeOutcome> {
  const { client, table } = options;
  const byId = new Map(options.items.map((item) => [item.id, item]));
  return inWriteTransaction(options, [...byId.keys()], async (keys) => {
    const items = keys.map((key) => byId.get(key)!);
    const ids = textArray(keys);
    const embeddings = arrayOf(
      options.vectorOid,
      items.map((item) => item.embedding),
    );
    const metadata = jsonbArray(items.map((item) => item.metadata));
    const [, versions] = await inOrder([
      run(client, upsertStatement(table, options.vectorType), [ids, embeddings, metadata]),
      run<WrittenKey>(client, versionsStatement(table), [ids]),
    ]);
    return versions.rows;
  });
}

export interface DeleteOptions extends TransactionOptions {
  readonly keys: readonly string[];
}

/** Keys without a row are in neither map. */
export function deleteOn(options: DeleteOptions): Promise<NodeOutcome> {
  const { client, table } = options;
  return inWriteTransaction(options, options.keys, async (keys) => {
    const ids = textArray(keys);
    const [, deleted, versions] = await inOrder([
      run(client, lockRowsStatement(table), [ids]),
      run<{ id: string }>(client, deleteStatement(table), [ids]),
      run<WrittenKey>(client, versionsStatement(table), [ids]),
    ]);
    const gone = new Set(deleted.rows.map((row) => row.id));
    return versions.rows.filter((row) => gone.has(row.id));
  });
}
