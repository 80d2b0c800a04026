/**
 * Restores the losing write of a conflict: writes it again as a new version that has seen everything, whatever the row is now. What it replaces becomes a
 * record itself, so that a restore loses nothing either. One transaction on the shard's primary; locks in the order of users' writes: row, version, record.
 */
import type pg from 'pg';
import { readCollection } from '../collections/catalog.pg.ts';
import { PgquorumError } from '../errors/error.ts';
import type { Deadline } from '../postgres/deadline.ts';
import type { Nodes } from '../topology/nodes.pg.ts';
import { conflictId } from '../versioning/conflict-id.ts';
import { versionView, type VersionColumns, type VersionView } from '../versioning/version-view.ts';
import type { NodeNumber } from '../versioning/version.ts';
import { checkIfMatch, parseIfMatch } from './if-match.ts';
import { LockedKey, type LockedVersion, type RowTexts } from './locked-key.pg.ts';
import { readRecord, type RecordTransactions } from './record-transaction.pg.ts';
import { conflictColumns, type ConflictJson } from './record.ts';

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
  readonly #transactions: RecordTransactions;

  constructor(options: { readonly nodes: Nodes; readonly transactions: RecordTransactions }) {
    this.#nodes = options.nodes;
    this.#transactions = options.transactions;
  }

  async restore(options: RestoreOptions): Promise<RestoreResult> {
    const ifMatch = parseIfMatch(options.ifMatch);
    const { done, node } = await this.#transactions.run(options.id, options.deadline, (client, record) =>
      restoreOn(client, record, ifMatch),
    );
    return {
      ...done,
      version: versionView(done.version, (number) => this.#nodes.nameOf(number)),
      coordinator: node.name,
      acks: [node.name],
    };
  }
}

type Restored = Omit<RestoreResult, 'version' | 'coordinator' | 'acks'> & {
  readonly version: VersionColumns;
};

async function restoreOn(
  client: pg.ClientBase,
  unlocked: ConflictJson,
  ifMatch: string | null,
): Promise<Restored> {
  const { id } = unlocked;
  const collection = await readCollection(client, unlocked.collection);
  if (collection === null)
    throw new PgquorumError('collection_not_found', `collection ${unlocked.collection}`);
  const locked = await LockedKey.lock(client, collection.table, unlocked.key_texts);
  const { row, version: current } = locked;
  checkIfMatch(ifMatch, current);
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

interface ReplacedOptions {
  readonly client: pg.ClientBase;
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
