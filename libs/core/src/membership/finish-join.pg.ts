/**
 * Watches a node that joins: once every edge into it is complete its ANN indexes are built, which is much faster than growing them row by row, and then
 * it is a master like the others. A kill in between begins at what is missing; of several processes one builds.
 *
 * Purge horizons come last: under them what is absent counts as purged, which says nothing of a node that is still being filled.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type pg from 'pg';
import { listCollections } from '../collections/catalog.pg.ts';
import { indexName, indexStatements } from '../collections/install.ts';
import { tellEvent } from '../events/tell.pg.ts';
import { failpoint } from '../faults/failpoint.process.ts';
import { startJob } from '../jobs/store.pg.ts';
import type { Logger } from '../observability/logger.process.ts';
import { quoteTable } from '../postgres/identifier.ts';
import { closeClient, connect, withConnection } from '../postgres/connect.pg.ts';
import { SessionLease } from '../postgres/session-lease.pg.ts';
import { transaction } from '../postgres/transaction.pg.ts';
import { takeShardsJob, type TakeArguments } from '../shards/move-request.ts';
import type { ClusterNode } from '../topology/found.pg.ts';

const lookEveryMs = 500;

export interface FinishJoinOptions {
  readonly node: ClusterNode;
  readonly others: readonly ClusterNode[];
  readonly logger: Logger;
  readonly onHealthy?: () => void;
}

/** Runs until the signal aborts or something breaks. */
export async function runFinishJoin(options: FinishJoinOptions, signal: AbortSignal): Promise<void> {
  const { node, onHealthy } = options;
  // Without a deadline for answers: an index may take hours.
  const client = await connect(node.address, { application: 'pgquorum joining' });
  const close = (): void => void closeClient(client);
  signal.addEventListener('abort', close, { once: true });
  try {
    onHealthy?.();
    while (!signal.aborted) {
      const place = await readPlace(client);
      if (place === 'filled') await finishAlone(options, client, signal);
      if (place === 'master') return await untilAborted(signal);
      await sleep(lookEveryMs, undefined, { signal });
    }
  } catch (cause) {
    if (!signal.aborted) throw cause;
  } finally {
    signal.removeEventListener('abort', close);
    await closeClient(client);
  }
}

/** A master does not become a joining node while a process serves it. */
const untilAborted = (signal: AbortSignal): Promise<void> =>
  new Promise((resolve) => {
    if (signal.aborted) resolve();
    else signal.addEventListener('abort', () => resolve(), { once: true });
  });

async function readPlace(client: pg.Client): Promise<'master' | 'filling' | 'filled'> {
  const { rows } = await client.query<{ joining: boolean; filling: boolean }>(
    `select n.joining_since is not null as joining,
       exists (select from pgquorum.source s where s.log = n.log and s.state <> 'ready')
       or exists (select from pgquorum.member m where not m.spare and not m.retired and m.number <> n.number
         and not exists (select from pgquorum.source s where s.origin = m.number and s.log = n.log)) as filling
     from pgquorum.node n`,
  );
  if (!rows[0]!.joining) return 'master';
  return rows[0]!.filling ? 'filling' : 'filled';
}

async function finishAlone(
  { node, others, logger }: FinishJoinOptions,
  client: pg.Client,
  signal: AbortSignal,
): Promise<void> {
  const lease = await SessionLease.take(node.address, 'finish join', signal);
  if (lease === null) return;
  try {
    failpoint('join-filled');
    for (const index of await missingIndexes(client)) {
      logger.info({ index: index.name }, 'building an index');
      // Left over from a build that was killed: it is not used, and in the way.
      await client.query(`drop index if exists ${index.quoted}`);
      await client.query(index.statement);
      failpoint('join-index-built');
    }
    await takeHorizons(client, others);
    failpoint('join-horizons-taken');
    await lease.check();
    const done = await becomeMaster(client, node.name);
    if (done.rowCount === 0) return;
    await tellEvent(client, 'replica-status', {
      replica: done.rows[0]!.number,
      status: 'active',
      before: 'joining',
    });
    logger.info('the node has joined');
  } finally {
    await lease.release();
  }
}

/** With it begins the job that gives it its shards of collections that nobody holds in full: no crash comes between. */
async function becomeMaster(client: pg.Client, name: string): Promise<pg.QueryResult<{ number: number }>> {
  return transaction(client, async () => {
    const done = await client.query<{ number: number }>(
      'update pgquorum.node set joining_since = null where joining_since is not null returning number',
    );
    const parts = await client.query('select from pgquorum.shard_map limit 1');
    if (done.rowCount === 1 && parts.rowCount === 1)
      await startJob(client, {
        kind: takeShardsJob,
        arguments: { node: name } satisfies TakeArguments,
        unit: 'shards',
      });
    return done;
  });
}

/**
 * From any peer: a horizon stands on every member before anything goes under it, and this node is one, so it has those that were raised since it was
 * registered, and every peer has those from before.
 */
async function takeHorizons(client: pg.Client, others: readonly ClusterNode[]): Promise<void> {
  let failure: unknown;
  for (const { address } of others) {
    try {
      await withConnection(address, { application: 'pgquorum joining', answerWithinMs: 30_000 }, (peer) =>
        copyHorizons(peer, client),
      );
      return;
    } catch (cause) {
      failure = cause;
    }
  }
  if (failure !== undefined) throw failure;
}

async function copyHorizons(from: pg.Client, to: pg.Client): Promise<void> {
  const { rows } = await from.query<{ horizons: unknown }>(
    `select coalesce(json_agg(json_build_object('collection', h.collection, 'shard', h.shard, 'hlc', h.hlc, 'clock', h.clock)), '[]') as horizons from pgquorum.horizon h`,
  );
  await to.query(
    `insert into pgquorum.horizon as h (collection, shard, hlc, clock)
     select t.* from jsonb_to_recordset($1::jsonb) t(collection text, shard int, hlc bigint, clock jsonb)
     on conflict (collection, shard) do update set clock = pgquorum.clock_join(h.clock, excluded.clock), hlc = greatest(h.hlc, excluded.hlc)`,
    [JSON.stringify(rows[0]!.horizons)],
  );
}

interface MissingIndex {
  readonly name: string;
  readonly quoted: string;
  readonly statement: string;
}

async function missingIndexes(client: pg.Client): Promise<MissingIndex[]> {
  const missing: MissingIndex[] = [];
  for (const { table, definition } of await listCollections(client)) {
    const [statement] = indexStatements(table, definition);
    // The indexes of an attached table are its owner's.
    if (statement === undefined || definition.attached !== undefined) continue;
    const quoted = quoteTable({ schema: table.schema, name: indexName(table) });
    const { rows } = await client.query(
      'select from pg_index i where i.indexrelid = to_regclass($1) and i.indisvalid and i.indisready',
      [quoted],
    );
    if (rows.length === 0) missing.push({ name: indexName(table), quoted, statement });
  }
  return missing;
}
