/**
 * The apply transaction. Invariants, and what would break them:
 * - a row and its version are changed together, or not at all: versions are written by compare-and-set against what the plan was made from; a
 *   count that is off means that a local write slipped in between, so the statement fails, and all is rolled back and done again;
 * - rows are locked before versions and both in key order, as users' statements take them; a tombstone's version is never locked before its
 *   row exists: a user's insert would wait for us with its row in hand while we wait for that row;
 * - the applier gives way: a short lock_timeout, then it starts over;
 * - nothing that has to be looked at here may be left when the commit is sent along with the writes: what can go wrong makes a statement fail;
 * - locks are taken in one statement and read under in a later one: a locking statement may return what its older snapshot saw.
 */
import type { DataChange } from '../changelog/change.ts';
import { PgquorumError } from '../errors/error.ts';
import { failpoint } from '../faults/failpoint.process.ts';
import { CopyRefused, ShardRolesChanged, type ApplyCounts } from './outcomes.ts';
import type { ApplySession } from './session.pg.ts';
import { readEarlier } from './earlier.pg.ts';
import type { TargetTable } from './target-table.ts';
import { covers } from '../versioning/clock.ts';
import { beginSql, progressSql } from './statements.ts';
import { int4Array, int8Array } from '../postgres/binary-array.ts';
import { CollectionWork } from './work.pg.ts';

/** What a batch proves when it is committed: the position up to which its lane holds each stream. */
export interface ProgressMark {
  readonly stream: number;
  readonly position: bigint;
  readonly commitTimeMs: number;
  readonly changes: number;
}

export interface ProgressWrite {
  readonly origin: number;
  readonly log: string;
  readonly lane: number;
  readonly marks: readonly ProgressMark[];
}

export interface ApplyRequest {
  readonly changes: readonly DataChange[];
  readonly progress: ProgressWrite | null;
  /** Further statements of the same transaction, e.g. the removal of what was parked. */
  readonly also?: (session: ApplySession) => Promise<unknown>;
  readonly lockTimeoutMs: number;
  /**
   * The changes are whole states, copied from a holder of the shard that has forgotten nothing to one that may have, or was never filled: they are merged as
   * they are. Else what is under the purge horizon and not held here has been purged, and is kept as `returned`.
   */
  readonly copied?: boolean;
}

/** Each begins with the roles as the one before found them. */
const roleRedosMax = 3;

export async function applyTransaction(session: ApplySession, request: ApplyRequest): Promise<ApplyCounts> {
  for (let redos = 0, copying = true; ;) {
    try {
      return await applyOnce(session, request, { copying });
    } catch (cause) {
      if (cause instanceof CopyRefused && copying) copying = false;
      else if (cause instanceof ShardRolesChanged && redos < roleRedosMax) redos += 1;
      else throw cause;
    }
  }
}

/** With `copying`, keys that have no row here are added without looking again whether they still have none: a rejection by CopyRefused says so. */
async function applyOnce(
  session: ApplySession,
  request: ApplyRequest,
  { copying }: { readonly copying: boolean },
): Promise<ApplyCounts> {
  const counts: ApplyCounts = { written: 0, skipped: 0, conflicts: 0, found: [], vanished: 0 };
  const works: CollectionWork[] = [];
  for (const [collection, changes] of Map.groupBy(request.changes, (change) => change.collection)) {
    const table = await findTable(session, collection, changes);
    if (table !== null)
      works.push(new CollectionWork(session, table, changes, { copying, copied: request.copied ?? false }));
  }
  const started = session.client.query(
    beginSql({ lockTimeoutMs: request.lockTimeoutMs, replicaRole: session.replicaRole }),
  );
  try {
    // Everything is sent at once; the server runs it in order, so locks come before the reads under them.
    await all([started, ...works.map((work) => work.read())]);
    for (const work of works) await work.prepare(counts);
    const sent: Promise<unknown>[] = [];
    let checked: boolean;
    try {
      checked = works.map((work) => work.send(sent)).every(Boolean);
      if (request.progress !== null) sent.push(writeProgress(session, request.progress));
      // Has to send all of its statements before it waits for any: the commit may follow at once.
      if (request.also) sent.push(request.also(session));
    } catch (cause) {
      await Promise.allSettled(sent); // some were sent before this one could not be
      throw cause;
    }
    // A round trip less: after a statement that failed the server takes a commit for a rollback.
    const along = checked && (await allLeft(sent));
    if (along) sent.push(session.client.query('commit'));
    if (along && works.length > 0) failpoint('apply-commit-sent');
    await all(sent);
    if (!along) await session.client.query('commit');
    return counts;
  } catch (cause) {
    await session.client.query('rollback').catch(() => undefined); // the connection may be what failed
    throw cause;
  }
}

/** Null when the collection was dropped with all that the changes are about. Throws `schema_drift` when it is not here yet. */
async function findTable(
  session: ApplySession,
  collection: string,
  changes: readonly DataChange[],
): Promise<TargetTable | null> {
  try {
    return await session.catalog.table(collection);
  } catch (cause) {
    if (!(cause instanceof PgquorumError) || cause.code !== 'schema_drift') throw cause;
    const earlier = await readEarlier(session, collection);
    if (
      changes.every((change) =>
        covers(earlier, change.kind === 'write' ? change.version.dot : change.record.loser.dot),
      )
    )
      return null;
    throw cause;
  }
}

/** False when a statement was refused on this side: the server knows nothing of it and would commit the others. The driver says so within a turn of the loop. */
async function allLeft(sent: readonly Promise<unknown>[]): Promise<boolean> {
  let left = true;
  for (const one of sent) one.catch(() => (left = false));
  await new Promise((resolve) => setImmediate(resolve));
  return left;
}

/** Waits for all, then throws the first failure: nothing of a broken transaction may still be on its way when it is rolled back. */
async function all(work: readonly Promise<unknown>[]): Promise<void> {
  const results = await Promise.allSettled(work);
  const failed = results
    .filter((result) => result.status === 'rejected')
    .map((result) => result.reason as unknown);
  // Statements after the first failure fail only because the transaction did (25P02): the others tell more.
  const telling = failed.find((reason) => (reason as { code?: string }).code !== '25P02') ?? failed[0];
  if (telling !== undefined) throw telling;
}

export async function writeProgress(
  session: ApplySession,
  { origin, log, lane, marks }: ProgressWrite,
): Promise<void> {
  const written = await session.run('progress', progressSql, [
    origin,
    log,
    lane,
    int4Array(marks.map((mark) => mark.stream)),
    int8Array(marks.map((mark) => mark.position)),
    int8Array(marks.map((mark) => Math.round(mark.commitTimeMs))),
    int8Array(marks.map((mark) => mark.changes)),
  ]);
  if (written.rowCount !== marks.length)
    throw new PgquorumError('invariant_broken', 'progress was not written');
}
