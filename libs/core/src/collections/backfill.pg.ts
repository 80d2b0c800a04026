/**
 * Gives the rows that an attached table had before their versions, in batches in key order. A version without its row in the transaction makes capture
 * read both again and send them: that is how existing rows reach the other nodes, in order with everything else that is written meanwhile.
 *
 * Rows that are the same on several masters (restored from one dump) get one version there, so that they are neither sent nor in conflict. The others
 * take it before it is committed here. Should that commit fail, the key gets a later dot here, whose clock covers the one that they hold.
 *
 * Memory: the keys of one batch. A crash repeats a batch at most, and stamps nothing twice. Users are never in our way nor we in theirs: a row in
 * use makes the batch smaller, at last it is left for the next round.
 */
import type pg from 'pg';
import { setTimeout as delay } from 'node:timers/promises';
import { failpoint } from '../faults/failpoint.process.ts';
import { sqlStateOf } from '../postgres/sqlstate.ts';
import { agreeSql, keepHereSql, nextKeySql, stampNextSql, type StampedTable } from './unversioned-rows.ts';

export type KeyPlace = readonly string[] | null;

/** How far one round from the first key to the last has come. */
export interface RoundPlace {
  readonly after: KeyPlace;
  /** Rows that were in use and are for the next round. */
  readonly left: number;
}

export interface BackfillOptions {
  readonly client: pg.Client;
  readonly table: StampedTable;
  /** Nodes that may hold the same rows. */
  readonly others: readonly pg.Client[];
  /** The columns by which rows are compared. */
  readonly columns: readonly string[];
  /** May rows that all other nodes hold be left out of the change log? Not where others than the nodes read it. */
  readonly mayKeep: boolean;
  readonly from: RoundPlace;
  readonly batchRows: number;
  readonly signal: AbortSignal;
  /** Called after each batch is committed. */
  readonly onBatch: (batch: {
    readonly scanned: number;
    readonly stamped: number;
    readonly agreed: number;
    readonly at: RoundPlace;
  }) => Promise<void>;
}

interface Stamped {
  readonly scanned: number;
  readonly stamped: number;
  readonly last: string[] | null;
  readonly versions: readonly { readonly key: readonly string[] }[] | null;
}

const lockTimeoutMs = 200;
const roundPauseMs = 500;
/** In the way of somebody: a lock not got in time, a deadlock, a snapshot too old. */
const passing = new Set(['55P03', '40P01', '40001']);

/** Done after a round that left nothing: what is written meanwhile, before or behind its place, has its version from the triggers. */
export async function backfill(options: BackfillOptions): Promise<void> {
  let from = options.from;
  while ((await round(options, from)) > 0) {
    await delay(roundPauseMs, undefined, { signal: options.signal });
    from = { after: null, left: 0 };
  }
}

/** From one place to the end; how many rows were left for the next round. */
async function round(options: BackfillOptions, from: RoundPlace): Promise<number> {
  let { after, left } = from;
  let rows = options.batchRows;
  for (;;) {
    options.signal.throwIfAborted();
    try {
      const { scanned, stamped, agreed, last } = await batch(options, after, rows);
      if (last === null) return left;
      after = last;
      await options.onBatch({ scanned, stamped, agreed, at: { after, left } });
      rows = Math.min(options.batchRows, rows * 2);
    } catch (cause) {
      await options.client.query('rollback');
      if (!passing.has(sqlStateOf(cause) ?? '')) throw cause;
      if (rows > 1) {
        rows = Math.max(1, rows >> 3);
        continue;
      }
      const next = await options.client.query<{ key: string[] }>(nextKeySql(options.table, after !== null), [
        ...(after ?? []),
        1,
      ]);
      if (next.rows[0] === undefined) return left;
      after = next.rows[0].key;
      left += 1;
    }
  }
}

async function batch(options: BackfillOptions, after: KeyPlace, rows: number) {
  const { client, table, others, columns } = options;
  await client.query(`begin isolation level read committed; set local lock_timeout = ${lockTimeoutMs}`);
  const found = await client.query<Stamped>(
    stampNextSql(table, after !== null, others.length > 0 ? columns : null),
    [...(after ?? []), rows],
  );
  const { scanned, stamped, last, versions } = found.rows[0]!;
  const agreed = versions === null ? [] : await agree(options, versions);
  if (agreed.length > 0) failpoint('backfill-agreed');
  if (agreed.length > 0 && options.mayKeep)
    await client.query(
      keepHereSql(table),
      table.key.map((_, at) => agreed.map((key) => key[at])),
    );
  await client.query('commit');
  if (stamped > 0) failpoint('backfill-committed');
  return { scanned, stamped, agreed: agreed.length, last };
}

/** The keys whose rows are the same on all others, which now have their versions. */
async function agree(
  { table, others, columns }: BackfillOptions,
  versions: NonNullable<Stamped['versions']>,
): Promise<(readonly string[])[]> {
  let agreed: (readonly string[])[] = versions.map(({ key }) => key);
  const sent = JSON.stringify(versions);
  for (const other of others) {
    const taken = await takeThere(other, agreeSql(table, columns), sent);
    const texts = new Set(taken.map((key) => JSON.stringify(key)));
    agreed = agreed.filter((key) => texts.has(JSON.stringify(key)));
  }
  return agreed;
}

async function takeThere(other: pg.Client, text: string, versions: string): Promise<string[][]> {
  await other.query(`begin isolation level read committed; set local lock_timeout = ${lockTimeoutMs}`);
  try {
    const taken = await other.query<{ key: string[] }>(text, [versions]);
    await other.query('commit');
    return taken.rows.map(({ key }) => key);
  } catch (cause) {
    await other.query('rollback');
    if (!passing.has(sqlStateOf(cause) ?? '')) throw cause;
    return []; // they stay without a version there, and merge when ours arrive
  }
}
