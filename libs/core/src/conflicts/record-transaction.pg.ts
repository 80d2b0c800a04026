/**
 * A transaction about one conflict record, on the primary of its shard, or on the next node of the shard that can. It does local writes. It gives way
 * to users' writes: when one waits for a lock for longer than a moment it is done again from the start.
 */
import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import type pg from 'pg';
import { readCollection } from '../collections/catalog.pg.ts';
import { PgquorumError } from '../errors/error.ts';
import type { Deadline } from '../postgres/deadline.ts';
import { isStaleMap, requestError } from '../postgres/request-error.ts';
import { remainingMs } from '../postgres/session.pg.ts';
import { sqlStateOf } from '../postgres/sqlstate.ts';
import { isNodeFailure, type Node, type Nodes } from '../topology/nodes.pg.ts';
import type { ShardPlacement } from '../topology/shard-placement.ts';
import type { ShardNumber } from '../versioning/version.ts';
import { checkConflictId } from './query.ts';
import { completedRecordSql, type ConflictJson } from './record.ts';

/** Below Postgres's deadlock_timeout of a second, so that a deadlock ends here and not in a user's transaction. */
const lockTimeoutMs = 400;
const pauseMs = 30;
/** Lock timeout, deadlock, serialization failure. */
const givesWay = new Set(['55P03', '40P01', '40001']);

type Work<T> = (client: pg.ClientBase, record: ConflictJson) => Promise<T>;

export class RecordTransactions {
  readonly #nodes: Nodes;
  readonly #placement: ShardPlacement;

  constructor(options: { readonly nodes: Nodes; readonly placement: ShardPlacement }) {
    this.#nodes = options.nodes;
    this.#placement = options.placement;
  }

  /** What `work` gave and where it was committed. It gets the record unlocked: rows and versions are locked before records. */
  async run<T>(givenId: string, deadline: Deadline, work: Work<T>): Promise<{ done: T; node: Node }> {
    const id = checkConflictId(givenId);
    let lost: unknown = null;
    for (const node of await this.#order(id, deadline)) {
      const progress = { commitSent: false };
      try {
        const found = await node.run(deadline, (client) =>
          patiently(client, { id, deadline, progress }, work),
        );
        if (found !== null) return { done: found.done, node };
        // else this node does not have the record yet
      } catch (cause) {
        if (progress.commitSent)
          throw new PgquorumError(
            'write_outcome_unknown',
            'the connection was lost after the commit was sent; doing it again is safe',
            { cause },
          );
        if (!isNodeFailure(cause) && !isStaleMap(cause)) throw requestError(cause);
        lost = cause;
      }
    }
    if (lost !== null)
      throw new PgquorumError('replicas_unavailable', 'no node that has the record can be written', {
        cause: lost,
      });
    throw new PgquorumError('conflict_not_found', `conflict ${id}`);
  }

  /** The primary of the record's shard first. */
  async #order(id: string, deadline: Deadline): Promise<readonly Node[]> {
    for (const node of this.#nodes.anyOrder()) {
      try {
        const found = await node.run(deadline, async (client) => {
          const record = await readRecord(client, id, '');
          const collection = record && (await readCollection(client, record.collection));
          return collection && { collection, shard: record.shard as ShardNumber };
        });
        if (found !== null)
          return this.#nodes.inOrder(this.#placement.replicasOf(found.collection, found.shard));
      } catch (cause) {
        if (!isNodeFailure(cause)) throw requestError(cause);
      }
    }
    return this.#nodes.live;
  }
}

export async function readRecord(
  client: pg.ClientBase,
  id: string,
  suffix: '' | ' for update',
): Promise<ConflictJson | null> {
  const found = await client.query<{ record: ConflictJson }>(
    `select ${completedRecordSql('c')} as record from pgquorum.conflict c where c.id = $1${suffix}`,
    [id],
  );
  return found.rows[0]?.record ?? null;
}

interface Attempt {
  readonly id: string;
  readonly deadline: Deadline;
  readonly progress: { commitSent: boolean };
}

async function patiently<T>(
  client: pg.PoolClient,
  attempt: Attempt,
  work: Work<T>,
): Promise<{ done: T } | null> {
  for (;;) {
    try {
      return await once(client, attempt, work);
    } catch (cause) {
      if (!givesWay.has(sqlStateOf(cause) ?? '') || remainingMs(attempt.deadline) <= pauseMs) throw cause;
      await sleep(pauseMs);
    }
  }
}

/** Null when the record is not on this node. */
async function once<T>(
  client: pg.PoolClient,
  { id, deadline, progress }: Attempt,
  work: Work<T>,
): Promise<{ done: T } | null> {
  try {
    // A row that comes back has the CRDT fields that it went with.
    await client.query(
      `begin isolation level read committed; set local pgquorum.request = '${randomUUID()}'; set local pgquorum.revive = 'on'; set local lock_timeout = ${lockTimeoutMs};
       set local statement_timeout = ${Math.max(1, Math.ceil(remainingMs(deadline)))}`,
    );
    const record = await readRecord(client, id, '');
    // Any epoch will do: what is looked at is here, under locks.
    if (record !== null)
      await client.query('select pgquorum.check_shards($1, array[$2::int], array[null::bigint])', [
        record.collection,
        record.shard,
      ]);
    const result = record === null ? null : { done: await work(client, record) };
    progress.commitSent = true;
    const committed = await client.query('commit');
    progress.commitSent = false;
    if (committed.command !== 'COMMIT')
      throw new PgquorumError('internal', 'the transaction was rolled back instead of committed');
    return result;
  } catch (cause) {
    if (!progress.commitSent) await client.query('rollback').catch(() => undefined); // the connection may be what failed; it is not used again then
    throw cause;
  }
}
