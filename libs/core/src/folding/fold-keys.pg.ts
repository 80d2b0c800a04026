/**
 * Folds keys of one collection on their node, in one short transaction that gives way to everyone. What was decided without locks is decided again on the
 * locked states: a request that another master turns out to have carried out too, say, has more dots by now.
 *
 * A fold is a change of the key's state with a dot of its own, published like an operation. It leaves `ops` alone: it does nothing that a deletion
 * would have to know of.
 */
import type pg from 'pg';
import type { CollectionTable } from '../collections/definition.ts';
import { PgquorumError } from '../errors/error.ts';
import { sqlStateOf } from '../postgres/sqlstate.ts';
import { transactionBegunBy } from '../postgres/transaction.pg.ts';
import type { Clock } from '../versioning/clock.ts';
import type { CrdtFields } from '../versioning/crdt/field.ts';
import { fold } from '../versioning/crdt/fold.ts';
import type { CrdtState } from '../versioning/crdt/state.ts';
import type { NodeNumber } from '../versioning/version.ts';
import { remember, type Remembered } from './members.pg.ts';
import { hasUnfolded, isHeard, isSeenByAll, type Looks } from './stability.ts';
import { keyArrays, lockRowsSql, lockStatesSql, unlistSql, writeStatesSql } from './statements.ts';

export interface FoldKey {
  readonly key: string;
  readonly looks: Looks;
  /** Requests that all other members have been told to remember. Empty: it is only seen whether anything is left to do. */
  readonly remembered: readonly Remembered[];
}

export interface FoldKeysOptions {
  readonly table: CollectionTable;
  readonly fields: CrdtFields;
  readonly me: NodeNumber;
}

export interface StateRow {
  readonly place: number;
  readonly number: number;
  readonly seen: Clock;
  readonly crdt: CrdtState;
  readonly deleted: boolean;
}

/** Waited for a key that is locked. */
const lockTimeoutMs = 200;

const begin = 'begin isolation level read committed; set local enable_seqscan = off';

interface FoldedKey {
  readonly key: string;
  readonly crdt: CrdtState;
  readonly seen: Clock;
}

export interface FoldedKeys {
  readonly changed: number;
  /** Keys that were to be folded while someone else had them locked. */
  readonly locked: readonly FoldKey[];
}

/** Leaves out what is locked. */
export function foldKeys(
  client: pg.Client,
  keys: readonly FoldKey[],
  options: FoldKeysOptions,
): Promise<FoldedKeys> {
  return transactionBegunBy(client, begin, () => foldLocked(client, keys, { ...options, skip: true }));
}

/** Waits for the key's locks for a moment. One key only: who waits holds nothing that another one waits for. */
export async function foldPatiently(
  client: pg.Client,
  key: FoldKey,
  options: FoldKeysOptions,
): Promise<number> {
  const patient = `${begin}; set local lock_timeout = ${lockTimeoutMs}`;
  try {
    const done = await transactionBegunBy(client, patient, () =>
      foldLocked(client, [key], { ...options, skip: false }),
    );
    return done.changed;
  } catch (cause) {
    if (sqlStateOf(cause) === '55P03') return 0; // another time
    throw cause;
  }
}

async function foldLocked(
  client: pg.Client,
  keys: readonly FoldKey[],
  options: FoldKeysOptions & { readonly skip: boolean },
): Promise<FoldedKeys> {
  const { table, me, skip } = options;
  const arrays = keyArrays(
    table,
    keys.map((one) => one.key),
  );
  // The row, then its version: in the order in which users' statements and apply lock them.
  const rows = await client.query<{ place: number }>(lockRowsSql(table, skip), arrays);
  const living = new Set(rows.rows.map((row) => row.place));
  const states = await client.query<StateRow>(lockStatesSql(table, skip), arrays);
  const folded: FoldedKey[] = [];
  const done: string[] = [];
  for (const row of states.rows) {
    if (row.number !== (me as number))
      throw new PgquorumError('node_misfit', `node ${me} has become node ${row.number}`);
    const one = keys[row.place - 1]!;
    const crdt = living.has(row.place) && !row.deleted ? foldOne(row, one, options) : row.crdt;
    if (crdt !== row.crdt) folded.push({ key: one.key, crdt, seen: row.seen });
    // Under the lock under which operations list their key.
    if (!hasUnfolded(crdt, me)) done.push(one.key);
  }
  if (folded.length > 0) {
    await write(client, folded, options);
    const changed = new Set(folded.map((one) => one.key));
    const requests = keys.flatMap((one) => (changed.has(one.key) ? one.remembered : []));
    await remember(client, { collection: table.collection, origin: me, requests });
  }
  if (done.length > 0) await client.query(unlistSql, [table.collection, done]);
  const reached = new Set(states.rows.filter((row) => living.has(row.place)).map((row) => row.place));
  const locked = keys.filter((one, at) => one.remembered.length > 0 && !reached.has(at + 1));
  return { changed: folded.length, locked };
}

function foldOne(
  { seen, crdt }: StateRow,
  { looks, remembered }: FoldKey,
  { fields, me }: FoldKeysOptions,
): CrdtState {
  if (remembered.length === 0 || !isHeard(seen, looks)) return crdt;
  const told = new Set(remembered.map((one) => one.request));
  return fold({
    state: crdt,
    fields,
    me,
    stable: (request, at) => told.has(request) && isSeenByAll(at, looks),
  });
}

async function write(
  client: pg.Client,
  folded: readonly FoldedKey[],
  { table, me }: FoldKeysOptions,
): Promise<void> {
  const counters = await drawCounters(client, folded, me);
  const written = await client.query(writeStatesSql(table), [
    ...keyArrays(
      table,
      folded.map((one) => one.key),
    ),
    folded.map((one) => JSON.stringify(one.crdt)),
    folded.map((one, at) => JSON.stringify({ ...one.seen, [me]: counters[at]! })),
  ]);
  if (written.rowCount !== folded.length)
    throw new PgquorumError(
      'invariant_broken',
      `${written.rowCount} of ${folded.length} locked keys of ${table.collection} were folded`,
    );
}

/** One for each key, beyond what the keys have seen of ours: the sequence may have gone back. */
async function drawCounters(
  client: pg.Client,
  folded: readonly FoldedKey[],
  me: NodeNumber,
): Promise<number[]> {
  const lastOwn = Math.max(...folded.map((one) => one.seen[me] ?? 0));
  const draw = async (): Promise<number[]> => {
    const drawn = await client.query<{ counter: string }>(
      `select nextval('pgquorum.dot')::text as counter from generate_series(1, $1)`,
      [folded.length],
    );
    return drawn.rows.map((row) => Number(row.counter));
  };
  const first = await draw();
  if (Math.min(...first) > lastOwn) return first;
  await client.query('select pgquorum.advance_dot($1)', [lastOwn]);
  return draw();
}
