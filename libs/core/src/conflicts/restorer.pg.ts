/**
 * Restores the losing write of a conflict: writes it again as a new version that has seen everything, whatever the row is now. What it replaces becomes a
 * record itself, so that a restore loses nothing either. One transaction on the shard's primary; locks in the order of users' writes: row, version, record.
 */
import { randomUUID } from 'node:crypto';
import type pg from 'pg';
import { readCollection } from '../collections/catalog.pg.ts';
import { PgquorumError } from '../errors/error.ts';
import type { Deadline } from '../postgres/deadline.ts';
import { requestError } from '../postgres/request-error.ts';
import { remainingMs } from '../postgres/session.pg.ts';
import { isNodeFailure, type Node, type Nodes } from '../topology/nodes.pg.ts';
import type { ShardPlacement } from '../topology/shard-placement.ts';
import { conflictId } from '../versioning/conflict-id.ts';
import {
  versionText,
  versionView,
  type VersionColumns,
  type VersionView,
} from '../versioning/version-view.ts';
import type { NodeNumber, ShardNumber } from '../versioning/version.ts';
import { LockedKey, type LockedVersion, type RowTexts } from './locked-key.pg.ts';
import { conflictColumns, conflictJsonSql, type ConflictJson } from './record.ts';
import { checkConflictId } from './store.pg.ts';

export interface RestoreResult {
  readonly id: string;
  readonly collection: string;
  readonly key: string;
  readonly deleted: boolean;
  readonly version: VersionView;
  readonly coordinator: string;
  readonly acks: readonly string[];
  /** The record of what was replaced; null when there was nothing. */
  readonly replaced: string | null;
}

export interface RestoreOptions {
  readonly id: string;
  /** `<origin>.<counter>`: restores only if this is the key's version now. */
  readonly ifMatch: string | null;
  readonly deadline: Deadline;
}

export class ConflictRestorer {
  readonly #nodes: Nodes;
  readonly #placement: ShardPlacement;

  constructor(options: { readonly nodes: Nodes; readonly placement: ShardPlacement }) {
    this.#nodes = options.nodes;
    this.#placement = options.placement;
  }

  async restore(options: RestoreOptions): Promise<RestoreResult> {
    const id = checkConflictId(options.id);
    const ifMatch = options.ifMatch === null ? null : parseVersionText(options.ifMatch);
    const request = randomUUID();
    let lost: unknown = null;
    for (const node of await this.#order(id, options.deadline)) {
      const progress = { commitSent: false };
      try {
        const done = await node.run(options.deadline, (client) =>
          inTransaction(client, request, options.deadline, progress, () => restoreOn(client, id, ifMatch)),
        );
        if (done === null) continue; // this node does not have the record yet
        return {
          ...done,
          version: versionView(done.version, (number) => this.#nodes.nameOf(number)),
          coordinator: node.name,
          acks: [node.name],
        };
      } catch (cause) {
        if (progress.commitSent)
          throw new PgquorumError(
            'write_outcome_unknown',
            'the connection was lost after the commit was sent; restoring again is safe',
            { cause },
          );
        if (!isNodeFailure(cause)) throw requestError(cause);
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
        const found = await node.run(deadline, (client) =>
          client.query<{ collection: string; shard: number }>(
            'select collection, shard from pgquorum.conflict where id = $1',
            [id],
          ),
        );
        const record = found.rows[0];
        if (record !== undefined)
          return this.#nodes.inOrder(this.#placement.nodesOf(record.collection, record.shard as ShardNumber));
      } catch (cause) {
        if (!isNodeFailure(cause)) throw requestError(cause);
      }
    }
    return this.#nodes.live;
  }
}

function parseVersionText(text: string): string {
  const bare = text.replace(/^W\//, '').replaceAll('"', '');
  if (!/^\d{1,5}\.\d{1,19}$/.test(bare))
    throw new PgquorumError('invalid_request', 'If-Match: must be a version, <origin>.<counter>');
  return bare;
}

async function inTransaction<T>(
  client: pg.PoolClient,
  request: string,
  deadline: Deadline,
  progress: { commitSent: boolean },
  work: () => Promise<T>,
): Promise<T> {
  try {
    await client.query(
      `begin isolation level read committed; set local pgquorum.request = '${request}'; set local statement_timeout = ${Math.max(1, Math.ceil(remainingMs(deadline)))}`,
    );
    const result = await work();
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

type Restored = Omit<RestoreResult, 'version' | 'coordinator' | 'acks'> & {
  readonly version: VersionColumns;
};

/** Null when the record is not on this node. */
async function restoreOn(
  client: pg.PoolClient,
  id: string,
  ifMatch: string | null,
): Promise<Restored | null> {
  const unlocked = await readRecord(client, id, '');
  if (unlocked === null) return null;
  const collection = await readCollection(client, unlocked.collection);
  if (collection === null)
    throw new PgquorumError('collection_not_found', `collection ${unlocked.collection}`);
  const locked = await LockedKey.lock(client, collection.table, unlocked.key_texts);
  const { row, version: current } = locked;
  if (ifMatch !== null && (current === null || versionText(current.origin, current.counter) !== ifMatch)) {
    throw new PgquorumError(
      'version_mismatch',
      current === null
        ? 'the key has no version'
        : `the version is ${versionText(current.origin, current.counter)}`,
    );
  }
  const record = (await readRecord(client, id, ' for update')) ?? unlocked;
  if (!record.loser_deleted) await locked.put((record.loser_row ?? {}) as RowTexts);
  else if (row !== null) await locked.remove();
  const version = await locked.versionNow();
  if (version === null)
    throw new PgquorumError(
      'conflict_not_restorable',
      'the key was never written on this node and the losing write was a delete',
    );
  const replaced =
    current === null || isSame(current, version)
      ? null
      : await recordReplaced({ client, record, current, row, version });
  await client.query(
    `update pgquorum.conflict c set state = 'restored', state_hlc = greatest(pgquorum.now_hlc(), c.state_hlc + 1), state_origin = n.number, applied = false from pgquorum.node n where c.id = $1`,
    [id],
  );
  return {
    id,
    collection: record.collection,
    key: record.key,
    deleted: record.loser_deleted,
    version,
    replaced,
  };
}

const isSame = (a: VersionColumns, b: VersionColumns): boolean =>
  a.origin === b.origin && a.counter === b.counter;

async function readRecord(client: pg.PoolClient, id: string, suffix: string): Promise<ConflictJson | null> {
  const found = await client.query<{ record: ConflictJson }>(
    `select ${conflictJsonSql('c')} as record from pgquorum.conflict c where c.id = $1${suffix}`,
    [id],
  );
  return found.rows[0]?.record ?? null;
}

interface ReplacedOptions {
  readonly client: pg.PoolClient;
  readonly record: ConflictJson;
  readonly current: LockedVersion;
  readonly row: RowTexts | null;
  readonly version: LockedVersion;
}

async function recordReplaced({ client, record, current, row, version }: ReplacedOptions): Promise<string> {
  const id = conflictId(record.collection, record.key, {
    origin: current.origin as NodeNumber,
    counter: Number(current.counter),
  });
  const replaced: ConflictJson = {
    id,
    collection: record.collection,
    key: record.key,
    key_texts: record.key_texts,
    shard: current.shard,
    kind: 'replaced',
    loser_rank: current.rank,
    loser_epoch: current.epoch,
    loser_hlc: current.hlc,
    loser_origin: current.origin,
    loser_counter: current.counter,
    loser_clock: current.clock,
    loser_deleted: current.deleted,
    loser_request: current.request,
    loser_crdt: current.crdt ?? null,
    loser_row: current.deleted ? null : row,
    winner_hlc: version.hlc,
    winner_origin: version.origin,
    winner_counter: version.counter,
    state: 'superseded',
    state_hlc: version.hlc,
    state_origin: version.origin,
    decided_by: 'restore',
    reason: `conflict ${record.id} was restored`,
  };
  const columns = conflictColumns.join(', ');
  await client.query(
    `insert into pgquorum.conflict (${columns}, applied) select ${columns}, false from jsonb_populate_record(null::pgquorum.conflict, $1::jsonb) on conflict do nothing`,
    [JSON.stringify(replaced)],
  );
  return id;
}
