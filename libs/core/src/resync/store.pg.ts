/**
 * What a node keeps of the edges into it that are being mended. An edge is in one of three states: `ready`; `resync` with the phase `noting`, in which
 * nothing is read, since no position is right; `resync` with the phase `copying`, in which the log is read from the noted position and the states
 * of the origin are copied beside it.
 *
 * Invariant: an edge leaves `resync` only in a transaction that finds all of the origin copied since the position was noted. Whoever has found a
 * position lost says which one (`synced`), so that one that was noted meanwhile is not given up for it.
 */
import type pg from 'pg';
import { tellEvent } from '../events/tell.pg.ts';
import { transaction } from '../postgres/transaction.pg.ts';
import type { WalkPlace } from '../verify/read-states.pg.ts';

export interface SourceId {
  readonly origin: number;
  readonly log: string;
}

/** Where the copying goes on: behind `after`, or at the beginning of the shard. */
export interface Cursor extends WalkPlace {
  readonly collection: string;
}

export interface Resync {
  readonly phase: 'noting' | 'copying';
  readonly reason: string;
  readonly cursor: Cursor | null;
  readonly copied: number;
  /** Names this resync among all of the edge. */
  readonly startedAt: string;
}

export interface SourceState {
  readonly state: string;
  readonly synced: string;
  readonly fed: string;
  /** It keeps its name when a node takes another number. */
  readonly slot: string | null;
  readonly resync: Resync | null;
}

type Client = Pick<pg.ClientBase, 'query'>;

export async function readSourceState(
  client: Client,
  { origin, log }: SourceId,
): Promise<SourceState | null> {
  const { rows } = await client.query<{
    state: string;
    synced: string;
    fed: string;
    slot: string | null;
    phase: Resync['phase'] | null;
    reason: string;
    collection: string | null;
    shard: number;
    after_key: string[] | null;
    copied: string;
    started_at: string;
  }>(
    `select s.state, s.synced::text, s.fed, s.slot, r.phase, r.reason, r.collection, r.shard, r.after_key, r.copied::text, r.started_at::text
     from pgquorum.source s left join pgquorum.resync r on r.origin = s.origin and r.log = s.log and s.state = 'resync' where s.origin = $1 and s.log = $2`,
    [origin, log],
  );
  const row = rows[0];
  if (row === undefined) return null;
  const { state, synced, fed, slot, phase, reason, collection, shard, after_key: after, copied } = row;
  const cursor = collection === null ? null : { collection, shard, after };
  return {
    state,
    synced,
    fed,
    slot,
    resync:
      phase === null ? null : { phase, reason, cursor, copied: Number(copied), startedAt: row.started_at },
  };
}

export interface BeginOptions extends SourceId {
  readonly reason: string;
  /** `noting` when the position is lost; `copying` when the log goes on from where it is and only has to be filled up. */
  readonly phase: Resync['phase'];
  /** The position that was found lost; null = whichever. */
  readonly synced: string | null;
  /** Copies from the beginning also where a copying is under way: what it has passed may miss something. */
  readonly again?: boolean;
  /** This node may have lost what it had of it. */
  readonly wentBack?: boolean;
}

/** False when there was nothing to begin: it has begun, or another position was noted meanwhile. */
export const beginResync = (client: Client, options: BeginOptions): Promise<boolean> =>
  transaction(client, () => beginResyncWithin(client, options));

/** The same as a part of a transaction. */
export async function beginResyncWithin(client: Client, options: BeginOptions): Promise<boolean> {
  const { origin, log, reason, phase, synced, wentBack = false } = options;
  const found = await client.query<{ synced: string; phase: string | null; went_back: boolean | null }>(
    `select s.synced::text, r.phase, r.went_back from pgquorum.source s left join pgquorum.resync r on r.origin = s.origin and r.log = s.log
     where s.origin = $1 and s.log = $2 and s.state <> 'creating' for update of s`,
    [origin, log],
  );
  const row = found.rows[0];
  const moved = synced !== null && row?.synced !== synced;
  const replaces = phase === 'noting' || options.again === true;
  const begins = row !== undefined && !moved && row.phase !== 'noting' && (row.phase === null || replaces);
  if (begins) {
    await client.query(
      `update pgquorum.source set state = 'resync', problem = null, problem_since = null where origin = $1 and log = $2`,
      [origin, log],
    );
    await client.query('delete from pgquorum.resync where origin = $1 and log = $2', [origin, log]);
    // What was lost before is not here yet.
    await client.query(
      'insert into pgquorum.resync (origin, log, reason, phase, went_back) values ($1, $2, $3, $4, $5)',
      [origin, log, reason, phase, wentBack || row.went_back === true],
    );
    await tellResync(client, { origin, happened: 'started', reason });
  }
  if (!begins && wentBack)
    await client.query('update pgquorum.resync set went_back = true where origin = $1 and log = $2', [
      origin,
      log,
    ]);
  return begins;
}

export interface NotedPosition {
  readonly slot: string | null;
  readonly publication: number | null;
  readonly generation: string;
  /** Stream -> position. */
  readonly positions: ReadonlyMap<number, bigint>;
  readonly fed?: string;
}

/** The log is read from here on, and the copying begins. Everything that the origin commits after the position comes by the log. */
export async function keepNoted(
  client: Client,
  { origin, log }: SourceId,
  noted: NotedPosition,
): Promise<void> {
  await transaction(client, async () => {
    await client.query('delete from pgquorum.progress where origin = $1 and log = $2', [origin, log]);
    await client.query(
      'insert into pgquorum.progress (origin, log, stream, lane, position) select $1, $2, n.stream, 0, n.position from unnest($3::int[], $4::bigint[]) n(stream, position)',
      [origin, log, [...noted.positions.keys()], [...noted.positions.values()].map(String)],
    );
    await client.query(
      `update pgquorum.source set slot = $3, publication = $4, generation = $5, fed = coalesce($6, fed), lanes = 1, synced = synced + 1, problem = null, problem_since = null
       where origin = $1 and log = $2`,
      [origin, log, noted.slot, noted.publication, noted.generation, noted.fed ?? null],
    );
    await client.query(
      `update pgquorum.resync set phase = 'copying', collection = null, shard = null, after_key = null, copied = 0, written = 0, refused = 0 where origin = $1 and log = $2`,
      [origin, log],
    );
  });
}

export interface Copied {
  readonly read: number;
  readonly written: number;
  readonly refused: number;
}

/** False when this resync is not the one that runs any more. */
export async function saveCursor(
  client: Client,
  { origin, log }: SourceId,
  { startedAt, cursor, copied }: { startedAt: string; cursor: Cursor; copied: Copied },
): Promise<boolean> {
  const saved = await client.query(
    `update pgquorum.resync set collection = $4, shard = $5, after_key = $6, copied = copied + $7, written = written + $8, refused = refused + $9
     where origin = $1 and log = $2 and started_at = $3::timestamptz and phase = 'copying'`,
    [
      origin,
      log,
      startedAt,
      cursor.collection,
      cursor.shard,
      cursor.after === null ? null : JSON.stringify(cursor.after),
      copied.read,
      copied.written,
      copied.refused,
    ],
  );
  return saved.rowCount === 1;
}

/** What feeds the topic that is read here, as it is known here. */
export async function saveFed(client: Client, { origin, log }: SourceId, fed: string): Promise<void> {
  await client.query('update pgquorum.source set fed = $3 where origin = $1 and log = $2', [
    origin,
    log,
    fed,
  ]);
}

export async function saveTotal(client: Client, { origin, log }: SourceId, total: number): Promise<void> {
  await client.query('update pgquorum.resync set total = $3 where origin = $1 and log = $2', [
    origin,
    log,
    total,
  ]);
}

/** The edge is as good as one that never missed anything. */
export async function finishResync(
  client: Client,
  { origin, log }: SourceId,
  startedAt: string,
): Promise<boolean> {
  return transaction(client, async () => {
    const gone = await client.query<{ reason: string; copied: string; written: string; refused: string }>(
      `delete from pgquorum.resync where origin = $1 and log = $2 and started_at = $3::timestamptz and phase = 'copying' returning reason, copied::text, written::text, refused::text`,
      [origin, log, startedAt],
    );
    const row = gone.rows[0];
    if (row !== undefined) {
      await client.query(`update pgquorum.source set state = 'ready' where origin = $1 and log = $2`, [
        origin,
        log,
      ]);
      const { reason, copied, written, refused } = row;
      await tellResync(client, {
        origin,
        happened: 'finished',
        reason,
        copied: Number(copied),
        written: Number(written),
        refused: Number(refused),
      });
    }
    return row !== undefined;
  });
}

export async function tellResync(
  client: Client,
  { origin, ...body }: { readonly origin: number } & Readonly<Record<string, unknown>>,
): Promise<void> {
  const { rows } = await client.query<{ number: number }>('select number from pgquorum.node');
  await tellEvent(client, 'resync', { from: origin, to: rows[0]!.number, ...body });
}
