/**
 * Resolves all open conflicts of a key: writes the result as a local write, which has seen everything and so dominates on every master, and closes
 * the records. Runs inside a transaction of its caller, READ COMMITTED and without `pgquorum.apply`; whoever decides what the result is (a call of
 * a user, a resolver) is the caller's.
 */
import type pg from 'pg';
import { keyText } from '../changelog/change.ts';
import type { CollectionTable } from '../collections/definition.ts';
import { PgquorumError } from '../errors/error.ts';
import type { Dot } from '../versioning/version.ts';
import { LockedKey, type LockedVersion, type RowTexts } from './locked-key.pg.ts';

/** What the key is to be. */
export type ResolvedRow =
  /** As it is now, row or tombstone. */
  | { readonly kind: 'keep' }
  /** The current row with these columns; of a tombstone, `base` with them. */
  | { readonly kind: 'patch'; readonly columns: RowTexts; readonly base?: RowTexts | null }
  | { readonly kind: 'row'; readonly row: RowTexts }
  | { readonly kind: 'deleted' };

export interface ResolveKeyOptions {
  readonly table: CollectionTable;
  /** Canonical texts of the key columns. */
  readonly key: readonly string[];
  readonly row: ResolvedRow;
  readonly decidedBy: string;
  readonly reason: string;
  /** Resolves only if this is the key's version now. */
  readonly expectedWinner?: Dot;
  /** Records that are closed too, whatever their state is. */
  readonly alsoRecords?: readonly string[];
}

export type ResolveKeyOutcome =
  | {
      readonly kind: 'resolved';
      readonly version: LockedVersion;
      /** Ids of the records that were closed. */
      readonly records: readonly string[];
    }
  /** Nothing was changed. */
  | { readonly kind: 'winner-changed'; readonly current: LockedVersion | null };

export async function resolveKey(
  client: pg.ClientBase,
  options: ResolveKeyOptions,
): Promise<ResolveKeyOutcome> {
  const locked = await LockedKey.lock(client, options.table, options.key);
  const { expectedWinner } = options;
  if (expectedWinner !== undefined && !isDot(locked.version, expectedWinner))
    return { kind: 'winner-changed', current: locked.version };
  return resolveLocked(locked, options);
}

const isDot = (version: LockedVersion | null, dot: Dot): boolean =>
  version !== null && version.origin === dot.origin && Number(version.counter) === dot.counter;

/** The same for a key that is locked already, in the same transaction. */
export async function resolveLocked(
  locked: LockedKey,
  options: Omit<ResolveKeyOptions, 'expectedWinner'>,
): Promise<Extract<ResolveKeyOutcome, { kind: 'resolved' }>> {
  const { client, table } = locked;
  const key = keyText(options.key);
  // Before the write: the triggers of most strategies take open records for superseded by it.
  const closing = await client.query<{ id: string }>(
    `select c.id from pgquorum.conflict c where c.collection = $1 and c.key = $2 and (c.state = 'open' or c.id = any($3::uuid[])) order by c.id for update`,
    [table.collection, key, options.alsoRecords ?? []],
  );
  await write(locked, options);
  const version = await locked.versionNow();
  if (
    version === null ||
    isDot(locked.version, { origin: version.origin, counter: Number(version.counter) } as Dot)
  )
    throw new PgquorumError(
      'conflict_not_resolvable',
      'the key has no version here, so there is nothing to keep or delete',
    );
  const records = closing.rows.map(({ id }) => id);
  await client.query(
    `update pgquorum.conflict c set state = 'resolved', state_hlc = greatest($2::bigint, case when c.state in ('resolved', 'restored') then c.state_hlc + 1 end), state_origin = $3, decided_by = $4, reason = $5, applied = false
     where c.id = any($1::uuid[])`,
    [records, version.hlc, version.origin, options.decidedBy, options.reason],
  );
  return { kind: 'resolved', version, records };
}

async function write(
  locked: LockedKey,
  { key, table, row }: Omit<ResolveKeyOptions, 'expectedWinner'>,
): Promise<void> {
  const withKey = (columns: RowTexts): RowTexts => ({
    ...columns,
    ...Object.fromEntries(table.key.map(({ name }, at) => [name, key[at]!])),
  });
  switch (row.kind) {
    case 'keep':
      return locked.row === null ? locked.remove() : locked.patch({});
    case 'deleted':
      return locked.remove();
    case 'row':
      return locked.put(withKey(row.row));
    case 'patch':
      if (locked.row !== null) return locked.patch(row.columns);
      if (row.base == null)
        throw new PgquorumError(
          'conflict_not_resolvable',
          'the key is deleted, so there is no row to change',
        );
      return locked.put(withKey({ ...row.base, ...row.columns }));
  }
}
