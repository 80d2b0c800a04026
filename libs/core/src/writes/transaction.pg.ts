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
import type { ShardMap } from '../shards/entry.ts';
import type { WriteItem } from './item.ts';
import { checkBelief } from './replica-sets.pg.ts';
import { modelOutdated, type Models, type NamedModel } from './model.ts';
import {
  deleteStatement,
  lockRowsStatement,
  ranksStatement,
  requestStatement,
  statement,
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
  /** Items that this node does not take, for reasons of their own. */
  readonly refused?: ReadonlyMap<string, PgquorumError>;
}

export interface TransactionOptions {
  readonly client: pg.PoolClient;
  readonly table: CollectionTable;
  readonly request: RequestIdentity;
  readonly timeoutMs: number;
  readonly progress: CommitProgress;
  /** What this node is to hold, and under which epochs; null where every node holds everything. */
  readonly holding: Holding | null;
  /** Whom the members have to be, where every node holds everything and more than one node is counted on. */
  readonly members?: readonly string[] | null;
}

export interface Holding {
  readonly shards: readonly number[];
  readonly epochs: readonly number[];
}

/** The epochs that a gateway believes in. */
export function holdingOf(
  { map }: { readonly map?: ShardMap },
  items: readonly { readonly shard: number }[],
): Holding | null {
  if (map === undefined) return null;
  const shards = [...new Set(items.map(({ shard }) => shard))].toSorted((a, b) => a - b);
  return { shards, epochs: shards.map((shard) => map.find((entry) => entry.shard === shard)?.epoch ?? 0) };
}

const checkShardsStatement = statement('select pgquorum.check_shards($1, $2, $3)');

const byBytes = (a: string, b: string): number => Buffer.compare(Buffer.from(a), Buffer.from(b));

export const run = <R extends pg.QueryResultRow>(
  client: pg.PoolClient,
  prepared: NamedStatement,
  values: unknown[],
) => client.query<R>({ ...prepared, values });

/** Waits for all, so that no answer is left on the connection, then fails with the first failure. */
export async function inOrder<T extends readonly (Promise<unknown> | undefined)[]>(
  sent: [...T],
): Promise<{ [K in keyof T]: Awaited<T[K]> }> {
  const settled = await Promise.allSettled(sent.map((one) => Promise.resolve(one)));
  for (const one of settled as PromiseSettledResult<unknown>[])
    if (one.status === 'rejected') throw one.reason;
  return settled.map((one) => (one as PromiseFulfilledResult<unknown>).value) as {
    [K in keyof T]: Awaited<T[K]>;
  };
}

/** Commits what `work` did. It may send before `begun` has settled, and has to wait for that. */
export async function inTransaction<T>(
  { client, table, request, timeoutMs, progress, holding, members }: TransactionOptions,
  work: (begun: Promise<unknown>) => Promise<T>,
): Promise<T> {
  try {
    const started = client.query(
      `begin isolation level read committed; set local pgquorum.request = '${uuidText(request.id)}'; set local statement_timeout = ${Math.max(1, Math.ceil(timeoutMs))}; set local idle_in_transaction_session_timeout = ${Math.max(1, Math.ceil(timeoutMs)) + 1000}`,
    );
    // First of all: nothing may be written, nor looked at, where the shard has gone.
    const begun = inOrder([
      started,
      holding === null
        ? undefined
        : run(client, checkShardsStatement, [table.collection, holding.shards, holding.epochs]),
      members == null ? undefined : checkBelief(client, { kind: 'members', names: members }),
    ]);
    begun.catch(() => undefined); // the work meets it too, and waits for its own statements first
    const done = await work(begun);
    await begun;
    progress.commitSent = true;
    const committed = await client.query('commit');
    if (committed.command !== 'COMMIT')
      throw new PgquorumError('internal', 'the transaction was rolled back instead of committed');
    return done;
  } catch (cause) {
    // An answer of the server other than its going away says that it did not commit.
    if (sqlStateOf(cause) !== null && !isConnectionError(cause)) progress.commitSent = false;
    if (!progress.commitSent) await client.query('rollback').catch(() => undefined); // the connection may be what failed; it is not used again then
    throw cause;
  }
}

const inWriteTransaction = (
  options: TransactionOptions,
  keys: readonly string[],
  work: (keys: readonly string[]) => Promise<WrittenKey[]>,
): Promise<NodeOutcome> =>
  inTransaction(options, async (begun) => {
    const recorded =
      options.request.bodyHash === null
        ? new Map<string, RecordedKey>()
        : (await inOrder([begun, recall(options, keys)]))[1];
    const missing = keys.filter((key) => !recorded.has(key)).toSorted(byBytes);
    const written = missing.length === 0 ? [] : (await inOrder([begun, work(missing)]))[1];
    return { written: new Map(written.map((row) => [row.id, row])), recorded };
  });

/** What this request wrote here before. */
async function recall(
  { client, table, request }: TransactionOptions,
  keys: readonly string[],
): Promise<Map<string, RecordedKey>> {
  const [, found] = await inOrder([
    holdRequest(client, request),
    run<RecordedKey>(client, requestStatement(table), [table.collection, request.id, textArray(keys)]),
  ]);
  return new Map(found.rows.map((row) => [row.id, row]));
}

/** A repeat that runs at the same time waits here for the first to end. */
export async function holdRequest(client: pg.PoolClient, request: RequestIdentity): Promise<void> {
  const high = BigInt.asIntN(64, BigInt(`0x${request.id.replaceAll('-', '').slice(0, 16)}`));
  await inOrder([
    client.query('select pg_advisory_xact_lock($1::bigint)', [String(high)]),
    client.query(
      'insert into pgquorum.gateway_request (request, body_hash) values ($1, $2) on conflict do nothing',
      [request.id, request.bodyHash],
    ),
  ]);
}

function uuidText(id: string): string {
  if (!/^[0-9a-f-]{36}$/.test(id)) throw new PgquorumError('internal', 'a request id is no uuid');
  return id;
}

export interface UpsertOptions extends TransactionOptions {
  readonly vectorType: VectorType;
  /** Of the type that embeddings are sent as. */
  readonly vectorOid: number;
  readonly models: Models;
  readonly items: readonly WriteItem[];
}

export async function upsertOn(options: UpsertOptions): Promise<NodeOutcome> {
  const { client, table } = options;
  const byId = new Map(options.items.map((item) => [item.id, item]));
  const refused = new Map<string, PgquorumError>();
  const outcome = await inWriteTransaction(options, [...byId.keys()], async (keys) => {
    const items = keys.map((key) => byId.get(key)!);
    const groups = byModel(items);
    if (groups.size > 1) await run(client, lockRowsStatement(table), [textArray(keys)]);
    for (const [id, error] of await outdated(options, items)) refused.set(id, error);
    const writable = keys.filter((key) => !refused.has(key));
    if (writable.length === 0) return [];
    const sent = [...groups].flatMap(([model, group]) =>
      upsertGroup(
        options,
        model,
        group.filter((item) => !refused.has(item.id)),
      ),
    );
    const versions = run<WrittenKey>(client, versionsStatement(table), [textArray(writable)]);
    await inOrder([...sent, versions]);
    return (await versions).rows;
  });
  return { ...outcome, refused };
}

/** Items in their order, those without a model first: the setting that names one is empty then. */
function byModel(items: readonly WriteItem[]): Map<string, WriteItem[]> {
  const groups = new Map<string, WriteItem[]>();
  for (const item of items.toSorted((a, b) => (a.model?.rank ?? 0) - (b.model?.rank ?? 0))) {
    const name = item.model?.name ?? '';
    const group = groups.get(name);
    if (group === undefined) groups.set(name, [item]);
    else group.push(item);
  }
  return groups;
}

/** Items whose key has a later model. A later one that another transaction commits after this look is refused by the trigger, and the write is done again. */
async function outdated(
  { client, table, models }: UpsertOptions,
  items: readonly WriteItem[],
): Promise<Map<string, PgquorumError>> {
  const named = new Map(
    items.flatMap(({ id, model }): [string, NamedModel][] => (model === null ? [] : [[id, model]])),
  );
  if (named.size === 0) return new Map();
  const ranks = await run<{ id: string; rank: number }>(client, ranksStatement(table), [
    textArray([...named.keys()]),
  ]);
  return new Map(
    ranks.rows
      .filter(({ id, rank }) => rank > named.get(id)!.rank)
      .map(({ id, rank }) => [id, modelOutdated(named.get(id)!, rank, models)]),
  );
}

function upsertGroup(
  { client, table, vectorType, vectorOid }: UpsertOptions,
  model: string,
  items: readonly WriteItem[],
): Promise<unknown>[] {
  if (items.length === 0) return [];
  const embeddings = arrayOf(
    vectorOid,
    items.map((item) => item.embedding),
  );
  const upserted = (): Promise<unknown> =>
    run(client, upsertStatement(table, vectorType), [
      textArray(items.map((item) => item.id)),
      embeddings,
      jsonbArray(items.map((item) => item.metadata)),
    ]);
  return model === '' ? [upserted()] : [nameModel(client, model), upserted()];
}

/** For the rest of the transaction. */
export const nameModel = (client: pg.PoolClient, model: string): Promise<unknown> =>
  client.query(`select set_config('pgquorum.model', $1, true)`, [model]);

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
