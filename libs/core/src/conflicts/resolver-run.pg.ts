/**
 * Resolves one key by a custom resolver: reads what competes, asks outside of any lock, and writes the result only if the very same still competes. So it does
 * not matter how long the resolver takes, or whether another process does the same: the second one finds nothing left, and nobody's write is passed over.
 */
import type pg from 'pg';
import { keyText } from '../changelog/change.ts';
import type { CollectionTable } from '../collections/definition.ts';
import { PgquorumError } from '../errors/error.ts';
import { sqlStateOf, isConnectionError } from '../postgres/sqlstate.ts';
import { compareVersions, type Version } from '../versioning/version.ts';
import { LockedKey, type LockedVersion, type RowTexts } from './locked-key.pg.ts';
import { completedRecordSql, recordFromJson, type ConflictJson } from './record.ts';
import { resolveLocked, type ResolvedRow } from './resolution.pg.ts';
import { keepAttempt } from './resolver-attempt.pg.ts';
import { rowValues, verdictOf, type Exactness } from './resolver-values.ts';
import { decidedByResolver, ResolverFailure, sideVersion, type Resolver } from './resolver.ts';
import type { TableColumn } from './row-statements.ts';

/** Below deadlock_timeout: it gives way, never a user. */
const lockTimeoutMs = 300;
const statementTimeoutMs = 10_000;

export interface RunOptions {
  readonly client: pg.ClientBase;
  readonly table: CollectionTable;
  readonly key: readonly string[];
  readonly resolver: Resolver;
  readonly exactness: Exactness;
  readonly node: string;
}

export type RunOutcome =
  | { readonly kind: 'resolved'; readonly records: number }
  | { readonly kind: 'failed'; readonly error: string }
  /** Something else was done to the key meanwhile, or somebody has it locked: to be looked at again. */
  | { readonly kind: 'later' };

interface Loser {
  readonly id: string;
  readonly kind: string;
  readonly version: Version;
  readonly row: RowTexts | null;
}

interface Competing {
  readonly columns: readonly TableColumn[];
  readonly shard: number;
  readonly winner: LockedVersion;
  readonly row: RowTexts | null;
  /** The greatest version first: the order in which they are folded, the same wherever it is done. */
  readonly losers: readonly Loser[];
}

export async function runResolver(options: RunOptions): Promise<RunOutcome> {
  const competing = await inTransaction(options.client, async () => {
    const locked = await LockedKey.lock(options.client, options.table, options.key);
    return readCompeting(options, locked);
  });
  if (competing === 'busy' || competing === null) return { kind: 'later' };
  try {
    const result = await fold(options, competing);
    const done = await inTransaction(options.client, () => write(options, competing, result));
    return done === 'busy' || done === null ? { kind: 'later' } : { kind: 'resolved', records: done };
  } catch (cause) {
    const error = failureText(cause);
    if (error === null) throw cause;
    await keepAttempt(options.client, {
      records: competing.losers.map(({ id }) => id),
      resolver: options.resolver.name,
      version: options.resolver.version,
      error,
    });
    return { kind: 'failed', error };
  }
}

/** Null when there is nothing to resolve. */
async function readCompeting(
  { client, table, key }: RunOptions,
  locked: LockedKey,
): Promise<Competing | null> {
  const { rows } = await client.query<{ record: ConflictJson }>(
    `select ${completedRecordSql('c')} as record from pgquorum.conflict c where c.collection = $1 and c.key = $2 and c.state = 'open' order by c.id for update`,
    [table.collection, keyText(key)],
  );
  const winner = locked.version;
  if (winner === null || rows.length === 0 || winner.deleted !== (locked.row === null)) return null;
  const losers = rows.map(({ record }): Loser => {
    const { loser } = recordFromJson(record);
    return {
      id: record.id,
      kind: record.kind,
      version: loser,
      row: record.loser_deleted ? null : (record.loser_row as RowTexts | null),
    };
  });
  losers.sort((a, b) => compareVersions(b.version, a.version));
  return { columns: locked.columns, shard: winner.shard, winner, row: locked.row, losers };
}

/** The result of one resolution is `ours` in the next. */
async function fold(
  { resolver, exactness, table, key, node }: RunOptions,
  { columns, winner, row, losers, shard }: Competing,
): Promise<ResolvedRow> {
  let ours = {
    row,
    version: {
      origin: winner.origin,
      counter: winner.counter,
      hlc: winner.hlc,
      clock: winner.clock,
      rank: winner.rank,
      deleted: winner.deleted,
    },
  };
  let kept = true;
  const values = (texts: RowTexts | null) => (texts === null ? null : rowValues(texts, columns, exactness));
  for (const loser of losers) {
    const theirs = { row: loser.row, version: sideVersion(loser.version) };
    const result = await resolver.resolve(
      { ...ours, row: values(ours.row) },
      { ...theirs, row: values(theirs.row) },
      {
        collection: table.collection,
        key: keyText(key),
        shard,
        conflict: loser.id,
        kind: loser.kind,
        node,
      },
    );
    const verdict = verdictOf({ result, columns, table, sides: [ours.row, theirs.row], exactness });
    if (verdict.kind === 'ours') continue;
    kept = false;
    if (verdict.kind === 'theirs') ours = theirs;
    else {
      const made = verdict.kind === 'row' ? verdict.row : null;
      ours = { row: made, version: { ...ours.version, deleted: made === null } };
    }
  }
  if (kept) return { kind: 'keep' };
  return ours.row === null ? { kind: 'deleted' } : { kind: 'row', row: ours.row };
}

/** How many records were resolved; null when what competes is not what was read. */
async function write(options: RunOptions, before: Competing, result: ResolvedRow): Promise<number | null> {
  const { client, table, key, resolver } = options;
  const locked = await LockedKey.lock(client, table, key);
  const now = await readCompeting(options, locked);
  if (now === null || !isSameCompetition(before, now)) return null;
  const { records } = await resolveLocked(locked, {
    table,
    key,
    row: result,
    decidedBy: decidedByResolver(resolver),
    reason: `${resolver.name} resolved ${now.losers.length === 1 ? 'one losing write' : `${now.losers.length} losing writes`}`,
  });
  await client.query(
    'update pgquorum.conflict set attempt = null where id = any($1::uuid[]) and attempt is not null',
    [records],
  );
  return records.length;
}

const isSameCompetition = (a: Competing, b: Competing): boolean =>
  a.winner.origin === b.winner.origin &&
  a.winner.counter === b.winner.counter &&
  a.losers.length === b.losers.length &&
  a.losers.every((loser, at) => loser.id === b.losers[at]!.id);

const busyStates: ReadonlySet<string> = new Set(['55P03', '40P01', '40001']);

/** `busy`: somebody else has the key locked. */
async function inTransaction<T>(client: pg.ClientBase, work: () => Promise<T>): Promise<T | 'busy'> {
  try {
    await client.query(
      `begin isolation level read committed; set local lock_timeout = ${lockTimeoutMs}; set local statement_timeout = ${statementTimeoutMs}`,
    );
    const result = await work();
    await client.query('commit');
    return result;
  } catch (cause) {
    await client.query('rollback').catch(() => undefined); // the connection may be what failed; its next statement says so
    if (busyStates.has(sqlStateOf(cause) ?? '')) return 'busy';
    throw cause;
  }
}

/** Null when it is not the resolver's or its result's fault: then the loop is started again. */
function failureText(cause: unknown): string | null {
  if (cause instanceof ResolverFailure) return cause.message;
  if (cause instanceof PgquorumError) return cause.code.startsWith('conflict_') ? cause.detail : null;
  const state = sqlStateOf(cause);
  return state === null || isConnectionError(cause)
    ? null
    : `its result can not be written: ${(cause as Error).message}`;
}
