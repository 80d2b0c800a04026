/**
 * Re-reading whole states by SQL: for rows with TOASTed values that the WAL left out, and for transactions too large to hold.
 *
 * Row, version and open losers come from one statement's snapshot, never mixed with anything else. Two things could go wrong:
 * - with synchronous replication the WAL is decoded before the commit is visible: then `seen` does not cover the dot in hand; wait, read again;
 * - a commit made with `synchronous_commit = off` is visible before it is durable, and a crash would use its dot again for another write: so
 *   what was read leaves only when the WAL is flushed beyond the insert position taken after the read.
 */
import type pg from 'pg';
import { setTimeout as sleep } from 'node:timers/promises';
import {
  keyText,
  type ConflictChange,
  type ConflictRecord,
  type KeyTexts,
  type RowImage,
  type WriteChange,
} from '../changelog/change.ts';
import { advances, conflictJsonSql, recordFromJson, type ConflictJson } from '../conflicts/record.ts';
import { PgquorumError } from '../errors/error.ts';
import { quoteName, quoteTable } from '../postgres/identifier.ts';
import { covers, includes, type Clock } from '../versioning/clock.ts';
import type { CrdtState } from '../versioning/crdt/state.ts';
import type { RememberedRequest } from '../versioning/merge.ts';
import type { Epoch, HlcValue, NodeNumber, ShardNumber } from '../versioning/version.ts';
import { binaryColumnsSql, type PublishedCollection } from './catalog.pg.ts';
import type { ConflictMark, Reread } from './join.ts';
import { overwrittenRequest } from './overwritten-request.ts';

type Queryable = Pick<pg.ClientBase, 'query'>;

/** How long a commit may stay invisible before the stream gives up and starts again. */
const visibleWithinMs = 60_000;
/** A record that is nowhere for this long was deleted. */
const deletedAfterMs = 5000;

export interface RereadResult {
  readonly changes: WriteChange[];
  /** Keys whose version is alive but whose row is gone: it was removed behind the triggers' back. There is nothing to publish. */
  readonly rowless: KeyTexts[];
}

export async function rereadWrites(
  client: pg.Client,
  source: PublishedCollection,
  wanted: readonly Reread[],
  signal: AbortSignal,
): Promise<RereadResult> {
  const found: WriteChange[] = [];
  let missing = wanted;
  const deadline = Date.now() + visibleWithinMs;
  const visible = new EarlierCommits(client);
  for (;;) {
    const states = await readStates(
      client,
      source,
      missing.map((one) => one.key),
      { requests: 'none' },
    );
    const invisible: Reread[] = [];
    for (const one of missing) {
      const state = states.get(keyText(one.key));
      if (state !== undefined && isVisible(state, one)) found.push(withRequest(state, one));
      else invisible.push(one);
    }
    missing = invisible;
    if (missing.length === 0) break;
    signal.throwIfAborted(); // half of a chunk must not pass for all of it
    if (missing.some((one) => !states.has(keyText(one.key))) && !(await isStill(client, source))) break;
    missing = await withoutPurged(client, source, missing);
    if (await visible.isReached(missing.some((one) => !states.has(keyText(one.key)))))
      missing = await withoutCleaned(client, source, { missing, states });
    if (missing.length === 0) break;
    if (Date.now() > deadline)
      throw new PgquorumError(
        'timeout',
        `${missing.length} changes of ${source.collection} did not become visible on their origin`,
      );
    await sleep(5);
  }
  await waitFlushed(client);
  const isRowless = (change: WriteChange): boolean =>
    change.row !== null &&
    source.image.columns.some((column, at) => column.isKey && change.row!.values[at] === null);
  return {
    changes: found.filter((change) => !isRowless(change)),
    rowless: found.filter(isRowless).map((change) => change.key),
  };
}

/**
 * The records as they are now. The WAL is sent before its commit is visible to others, so one that is still behind what the WAL said is read again: its
 * old state would go out in place of the new one, which never comes again.
 */
export async function rereadConflicts(
  client: pg.Client,
  wanted: readonly ConflictMark[],
  signal: AbortSignal,
): Promise<ConflictChange[]> {
  const started = Date.now();
  const found = new Map<string, ConflictRecord>();
  for (;;) {
    const rows = await client.query<{ record: ConflictJson }>(
      `select ${conflictJsonSql('c')} as record from pgquorum.conflict c where c.id = any($1::uuid[])`,
      [wanted.filter((mark) => !found.has(mark.id)).map((mark) => mark.id)],
    );
    const records = rows.rows.map((row) => recordFromJson(row.record));
    for (const record of records)
      if (
        !advances(
          wanted.find((mark) => mark.id === record.id)!,
          record,
        )
      )
        found.set(record.id, record);
    const behind = wanted.filter((mark) => !found.has(mark.id));
    // A record that is not there at all may have been deleted with its collection.
    const waiting =
      Date.now() - started < deletedAfterMs
        ? behind
        : behind.filter((mark) => records.some((record) => record.id === mark.id));
    if (waiting.length === 0) break;
    signal.throwIfAborted();
    if (Date.now() - started > visibleWithinMs)
      throw new PgquorumError(
        'timeout',
        `${waiting.length} conflict records did not become visible on their origin`,
      );
    await sleep(5);
  }
  await waitFlushed(client);
  return [...found.values()].map((record) => ({
    kind: 'conflict',
    collection: record.collection,
    key: record.key,
    shard: record.shard,
    record,
  }));
}

/**
 * Waits until everything that the last statement can have seen is durable. Usually the next commit of anyone sees to it within moments. On an idle
 * node nobody does: reading alone writes WAL (pruned pages, hint bits under checksums), and the server leaves a part of a page unflushed
 * until somebody commits. So after a moment this commits itself, with a message that no one is sent.
 */
export async function waitFlushed(client: Queryable): Promise<void> {
  const read = await client.query<{ lsn: string }>('select pg_current_wal_insert_lsn()::text as lsn');
  for (let tries = 0; tries < 3; tries += 1) {
    const flushed = await client.query<{ done: boolean }>(
      'select pg_current_wal_flush_lsn() >= $1::pg_lsn as done',
      [read.rows[0]!.lsn],
    );
    if (flushed.rows[0]!.done) return;
    await sleep(1);
  }
  // `local`: what a standby has of it does not matter here, and one that is down must not hold this up.
  await client.query(
    `begin; set local synchronous_commit = local; select pg_logical_emit_message(true, 'pgquorum', 'flush'); commit`,
  );
}

/** What is under the purge horizon was merged by everyone, and its version may be gone: an old part of the WAL is read once more. */
async function withoutPurged(
  client: pg.Client,
  source: PublishedCollection,
  wanted: readonly Reread[],
): Promise<readonly Reread[]> {
  const rows = await client.query<{ place: number }>(
    `select k.place::int as place from unnest($2::text[], $3::text[], $4::bigint[]) with ordinality k(key, origin, counter, place)
     join pgquorum.collection s on s.name = $1
     join pgquorum.horizon h on h.collection = s.name and h.shard = pgquorum.shard_of(k.key, s.shards, s.definition)
     where (h.clock ->> k.origin)::bigint >= k.counter`,
    [
      source.collection,
      wanted.map((one) => keyText(one.key)),
      wanted.map((one) => String(one.version.dot.origin)),
      wanted.map((one) => one.version.dot.counter),
    ],
  );
  if (rows.rows.length === 0) return wanted;
  const purged = new Set(rows.rows.map((row) => row.place - 1));
  return wanted.filter((_, at) => !purged.has(at));
}

/**
 * Are all commits that the WAL can have told of by the first question visible to every statement that begins after this says so? A key that is absent then is not one whose
 * commit is still to be seen. True from the question after the one that found it out: what was read in between may have been read too early.
 */
class EarlierCommits {
  private readonly client: pg.Client;
  private until: string | null = null;
  private reached = false;

  constructor(client: pg.Client) {
    this.client = client;
  }

  async isReached(asked: boolean): Promise<boolean> {
    if (!asked || this.reached) return this.reached;
    const { rows } = await this.client.query<{ until: string; reached: boolean }>(
      `select coalesce($1::text, pg_snapshot_xmax(s.now)::text) as until, pg_snapshot_xmin(s.now) >= coalesce($1::text::xid8, pg_snapshot_xmax(s.now)) as reached from (select pg_current_snapshot() as now) s`,
      [this.until],
    );
    this.until = rows[0]!.until;
    this.reached = rows[0]!.reached;
    return false;
  }
}

/**
 * What is gone with a shard that this node does not hold was cleaned away, so every replica has it (shards/cleaner.pg.ts), and who joins the shard later gets it
 * from one of them.
 */
async function withoutCleaned(
  client: pg.Client,
  source: PublishedCollection,
  { missing, states }: { missing: readonly Reread[]; states: ReadonlyMap<string, unknown> },
): Promise<readonly Reread[]> {
  const gone = missing.filter((one) => !states.has(keyText(one.key)));
  if (gone.length === 0) return missing;
  const { rows } = await client.query<{ key: string }>(
    `select k.key from unnest($2::text[]) k(key) join pgquorum.collection s on s.name = $1
     join pgquorum.shard_role r on r.collection = s.name and r.shard = pgquorum.shard_of(k.key, s.shards, s.definition)
     where r.role in ('leaving', 'none') and not exists (select from pgquorum.shard_map m where m.collection = s.name and m.shard = r.shard and r.epoch <> m.epoch)`,
    [source.collection, gone.map((one) => keyText(one.key))],
  );
  const cleaned = new Set(rows.map((row) => row.key));
  return missing.filter((one) => states.has(keyText(one.key)) || !cleaned.has(keyText(one.key)));
}

/** False when the table was dropped, whatever has its name now. */
async function isStill(client: pg.Client, source: PublishedCollection): Promise<boolean> {
  const rows = await client.query(`select from pg_class where oid = $1`, [source.versionsOid]);
  return rows.rows.length > 0;
}

function withRequest(state: WriteChange, { version }: Reread): WriteChange {
  const losers = state.losers.map((record) => record.loser);
  return { ...state, requests: overwrittenRequest(version, { winner: state.version, losers }) };
}

type StateRow = unknown[];

/**
 * All requests of a key that are remembered, beside that of its version: for copies, which have no write in hand. There may be as many as a day has writes, and
 * the log tells of each anyway, so re-reads leave them out.
 */
const requestsSql = (collection: string, key: string): string =>
  `(select jsonb_agg(jsonb_build_array(r.request, r.origin, r.counter::text, r.hlc::text, r.clock)) from pgquorum.request r where r.collection = ${collection} and r.key = ${key} and (r.origin, r.counter) <> (v.origin, v.counter))`;

type RequestJson = [request: string, origin: number, counter: string, hlc: string, clock: Clock | null];

/** With `nameOf` the statement is prepared under that name, once a connection. */
export async function readStates(
  client: Queryable,
  source: PublishedCollection,
  keys: readonly KeyTexts[],
  { requests, nameOf }: { readonly requests: 'all' | 'none'; readonly nameOf?: (text: string) => string },
): Promise<Map<string, WriteChange>> {
  const { keyColumns, keyTypes } = source;
  const names = keyColumns.map((_, at) => `k${at}`);
  const match = (alias: string) =>
    keyColumns.map((name, at) => `${alias}.${quoteName(name)} = k.k${at}::${keyTypes[at]}`).join(' and ');
  const keyExpression =
    keyColumns.length === 1 ? 'k.k0' : `pgquorum.key_text(${names.map((name) => `k.${name}`).join(', ')})`;
  const collection = `$${keyColumns.length + 1}`;
  const text = `select ${names.map((name) => `k.${name}`).join(', ')}, v.rank, v.epoch::text, v.hlc::text, v.origin, v.counter::text, v.clock, v.seen, v.deleted, v.shard, v.request, v.crdt,
      (select jsonb_agg(${conflictJsonSql('c')}) from pgquorum.conflict c where c.collection = ${collection} and c.key = ${keyExpression} and c.state = 'open') as losers,
      ${requests === 'all' ? requestsSql(collection, keyExpression) : 'null'} as requests,
      ${binaryColumnsSql(source.columns, 't')}
    from unnest(${keyColumns.map((_, at) => `$${at + 1}::text[]`).join(', ')}) k(${names.join(', ')})
    join pgquorum.${quoteName(`version_${source.collection}`)} v on ${match('v')}
    left join ${quoteTable({ schema: source.schema, name: source.table })} t on ${match('t')}`;
  const values = [...keyColumns.map((_, at) => keys.map((key) => key[at])), source.collection];
  const name = nameOf?.(text);
  const result = await client.query<StateRow>({
    ...(name === undefined ? {} : { name }),
    text,
    values,
    rowMode: 'array',
  });
  const blocks = new Base64Blocks();
  return new Map(
    result.rows.map((row) => toChange(source, row, blocks)).map((change) => [keyText(change.key), change]),
  );
}

/** Decodes values into blocks: one allocation for a hundred rows, where one for each would scatter them over the memory of the process. */
class Base64Blocks {
  private block = Buffer.alloc(0);
  private used = 0;

  decode(value: string): Buffer {
    const bytesMax = Math.ceil((value.length * 3) / 4);
    if (bytesMax > blockBytes / 4) return Buffer.from(value, 'base64');
    if (this.used + bytesMax > this.block.length) {
      this.block = Buffer.allocUnsafeSlow(blockBytes);
      this.used = 0;
    }
    const start = this.used;
    this.used += this.block.write(value, start, 'base64');
    return this.block.subarray(start, this.used);
  }
}

/** Has the commit that is asked about been made visible? What was seen only grows, and holds every dot. */
function isVisible(state: WriteChange, { version, seen }: Reread): boolean {
  const now = state.seen ?? state.version.clock;
  return covers(now, version.dot) && (seen === null || includes(now, seen));
}

const blockBytes = 256 * 1024;

type StateFields = [
  rank: number,
  epoch: string,
  hlc: string,
  origin: number,
  counter: string,
  clock: Clock,
  seen: Clock | null,
  deleted: boolean,
  shard: number,
  request: string | null,
  crdt: CrdtState,
  losers: ConflictJson[] | null,
  requests: RequestJson[] | null,
  ...columns: (string | null)[],
];

function toChange(source: PublishedCollection, row: StateRow, blocks: Base64Blocks): WriteChange {
  const width = source.keyColumns.length;
  const key = row.slice(0, width) as string[];
  const [
    rank,
    epoch,
    hlc,
    origin,
    counter,
    clock,
    seen,
    deleted,
    shard,
    request,
    crdt,
    losers,
    requests,
    ...columns
  ] = row.slice(width) as StateFields;
  const image: RowImage | null = deleted
    ? null
    : {
        table: source.image,
        values: columns.map((value) => (value === null ? null : blocks.decode(value))),
      };
  return {
    kind: 'write',
    collection: source.collection,
    key,
    shard: shard as ShardNumber,
    version: {
      rank,
      epoch: BigInt(epoch) as Epoch,
      hlc: BigInt(hlc) as HlcValue,
      dot: { origin: origin as NodeNumber, counter: Number(counter) },
      clock,
      deleted,
      request,
      crdt,
    },
    row: image,
    seen,
    losers: (losers ?? []).map(recordFromJson),
    requests: (requests ?? []).map(rememberedOf),
  };
}

const rememberedOf = ([request, origin, counter, hlc, clock]: RequestJson): RememberedRequest => ({
  request,
  dot: { origin: origin as NodeNumber, counter: Number(counter) },
  hlc: BigInt(hlc) as HlcValue,
  ...(clock === null ? {} : { clock }),
});
