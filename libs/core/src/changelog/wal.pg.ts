/**
 * The change log of an origin read straight from its WAL: the slot's messages, joined by transaction, as batches. One stream, 0; positions are
 * end LSNs of commits (LSNs inside transactions are not monotonic) or LSNs of keepalives, which let an idle reader advance.
 */
import type pg from 'pg';
import { OriginCatalog } from '../capture/catalog.pg.ts';
import { TransactionJoin, type Joined, type RelationRole } from '../capture/join.ts';
import { lsnFromText } from '../capture/lsn.ts';
import { PublishedCheck } from '../capture/published.pg.ts';
import { parsePgoutput, type PgoutputMessage } from '../capture/pgoutput.ts';
import { rereadConflicts, rereadWrites } from '../capture/reread.pg.ts';
import { SlotStream } from '../capture/slot.pg.ts';
import type { Pace } from '../bandwidth/pace.ts';
import type { NodeAddress } from '../config/settings.ts';
import { closeClient, connect } from '../postgres/connect.pg.ts';
import type { NodeNumber } from '../versioning/version.ts';
import { keyText, type Change, type LogBatch, type Position, type WriteChange } from './change.ts';
import type { ChangeLogReader, HeldPositions, Positions } from './port.ts';
import { PgquorumError } from '../errors/error.ts';

export interface WalOptions {
  readonly node: NodeAddress;
  readonly origin: NodeNumber;
  readonly slot: string;
  /** Oid of the publication that the slot was made for. */
  readonly publication: number | null;
  readonly transactionBytesMax: number;
  /** Then `slot` names a temporary copy of one of these: see SlotOptions. */
  readonly copyOf?: readonly string[];
  /** See SlotOptions. */
  readonly sole?: boolean;
  /** See SlotOptions. */
  readonly confirmed?: boolean;
  /** What the stream may hold ahead of its consumer, beside the transaction that is being joined. */
  readonly aheadBytesMax?: number;
  /** How fast it may read. */
  readonly pace?: Pace | undefined;
  /** Told of rows that vanished behind the triggers' back. */
  readonly onRowless?: (collection: string, keys: readonly string[]) => void;
}

/** Keys re-read in one statement, and handed out at once from a large transaction. */
const chunkKeys = 1000;

interface OpenTransaction {
  readonly join: TransactionJoin;
  readonly commitLsn: bigint;
  readonly commitTimeMs: number;
}

/** What there is to hand out after a message; several batches where rows have to be read again. */
type Handled = LogBatch | AsyncGenerator<LogBatch> | null;

export class WalChangeLog implements ChangeLogReader {
  readonly origin: NodeNumber;
  private readonly options: WalOptions;
  private stream: SlotStream | null = null;

  constructor(options: WalOptions) {
    this.options = options;
    this.origin = options.origin;
  }

  /** What the stream holds that was not asked for yet. */
  get bytesAhead(): number {
    return this.stream?.bytesAhead ?? 0;
  }

  async *read({ from, signal }: { from: Positions; signal: AbortSignal }): AsyncGenerator<LogBatch> {
    const { node, slot, publication } = this.options;
    const start = from.get(0);
    if (start === undefined)
      throw new PgquorumError('invariant_broken', `slot ${slot} is read without a position`);
    const sql = await connect(node, { application: `pgquorum ${slot} re-read`, answerWithinMs: 60_000 });
    const { aheadBytesMax, confirmed, copyOf, origin, pace, sole } = this.options;
    const stream = new SlotStream({
      node,
      slot,
      from: start,
      publication,
      copyOf,
      pace,
      sole,
      confirmed: confirmed === true ? { name: node.name, number: origin } : undefined,
      ...(aheadBytesMax === undefined ? {} : { aheadBytesMax }),
    });
    try {
      await stream.open();
      this.stream = stream;
      const reading = new Reading({ ...this.options, stream, sql, signal, from: start });
      await reading.begin();
      yield* reading.batches();
    } catch (cause) {
      if (!signal.aborted) throw cause;
    } finally {
      // After an abort what is under way may still be confirmed: the stream stays until `close`.
      if (!signal.aborted) await this.close();
      await closeClient(sql);
    }
  }

  confirm(_stream: number, position: Position): void {
    this.stream?.confirm(position);
  }

  async positions(): Promise<HeldPositions> {
    const client = await connect(this.options.node, {
      application: `pgquorum ${this.options.slot} positions`,
    });
    try {
      const rows = await client.query<{ first: string | null; end: string }>(
        'select (select confirmed_flush_lsn::text from pg_replication_slots where slot_name = $1) as first, pg_current_wal_flush_lsn()::text as end',
        [this.options.slot],
      );
      const { first, end } = rows.rows[0]!;
      return first === null
        ? new Map()
        : new Map([[0, { first: lsnFromText(first), end: lsnFromText(end) }]]);
    } finally {
      await client.end();
    }
  }

  async close(): Promise<void> {
    const stream = this.stream;
    this.stream = null;
    await stream?.close();
  }
}

/** One reading of the slot, from its start to its end. */
class Reading {
  private readonly options: WalOptions & {
    readonly stream: SlotStream;
    readonly sql: pg.Client;
    readonly signal: AbortSignal;
    readonly from: Position;
  };
  private readonly catalog: OriginCatalog;
  private readonly published: PublishedCheck;
  private readonly roles = new Map<number, RelationRole>();
  private readonly types = new Map<number, string>();
  private transaction: OpenTransaction | null = null;
  /** Newest position behind which nothing is left to hand out, not yet handed out itself. */
  private passed: Position | null = null;
  /** Newest position handed out. Keepalives repeat it while the origin is idle, and may lag behind it. */
  private reached: Position;

  constructor(options: Reading['options']) {
    this.options = options;
    this.reached = options.from;
    this.catalog = new OriginCatalog(options.sql);
    this.published = new PublishedCheck(options.sql, options);
  }

  async begin(): Promise<void> {
    await this.published.run(performance.now());
    await this.catalog.reload();
  }

  async *batches(): AsyncGenerator<LogBatch> {
    const { stream, signal } = this.options;
    for (;;) {
      let message = stream.poll();
      if (message === null) {
        if (this.passed !== null) yield this.passedBatch();
        message = await stream.next(signal);
        if (message === null) return;
      }
      if (signal.aborted) return;
      // Heartbeats see to it that an idle stream looks too.
      if (this.published.isDue(performance.now())) await this.published.run(performance.now());
      if (message.kind === 'keepalive') {
        if (this.transaction === null && message.lsn > this.reached) this.passed = message.lsn;
        continue;
      }
      const handled = this.handle(parsePgoutput(message.message));
      const batch = handled instanceof Promise ? await handled : handled;
      if (batch === null) continue;
      if (Symbol.asyncIterator in batch) yield* batch;
      else yield batch;
    }
  }

  /** Null when there is nothing to hand out yet. Never waits unless it has to ask the origin. */
  private handle(message: PgoutputMessage): Handled | Promise<null> {
    switch (message.kind) {
      case 'row': {
        const { join } = this.current();
        const role = this.roles.get(message.relationId);
        if (role === undefined)
          throw new PgquorumError(
            'invariant_broken',
            `a row of relation ${message.relationId} came before its description`,
          );
        join.add(role, message.tuple);
        return join.full ? this.finish(join.take(), null) : null;
      }
      case 'begin':
        this.transaction = {
          join: new TransactionJoin({ bytesMax: this.options.transactionBytesMax, chunkKeys }),
          commitLsn: message.commitLsn,
          commitTimeMs: message.commitTimeMs,
        };
        return null;
      case 'commit':
        return this.commit(message.endLsn);
      case 'relation':
        return this.catalog.reload().then(async () => {
          this.roles.set(message.relation.id, await this.catalog.roleOf(message.relation, this.types));
          return null;
        });
      case 'type':
        this.types.set(message.oid, message.name);
        return null;
      case 'ignored':
        return null;
    }
  }

  private current(): OpenTransaction {
    if (this.transaction === null)
      throw new PgquorumError('invariant_broken', 'a row came outside of a transaction');
    return this.transaction;
  }

  private commit(endLsn: bigint): Handled {
    const joined = this.current().join.take();
    if (
      joined.changes.length === 0 &&
      joined.reread.length === 0 &&
      joined.rereadConflicts.length === 0 &&
      !joined.heartbeat
    ) {
      this.transaction = null;
      this.passed = endLsn;
      return null;
    }
    return this.finish(joined, endLsn);
  }

  private finish(joined: Joined, position: Position | null): Handled {
    if (joined.reread.length === 0 && joined.rereadConflicts.length === 0)
      return this.batch(joined, joined.changes, position);
    return this.reread(joined, position);
  }

  /** In parts, so that a transaction that was too large to hold is never held after all. The last one has the position. */
  private async *reread(joined: Joined, position: Position | null): AsyncGenerator<LogBatch> {
    const { sql, stream, signal, onRowless } = this.options;
    const { heartbeat } = joined;
    let part: { bytes: number; changes: Change[] } = joined;
    for (const [collection, wanted] of Map.groupBy(joined.reread, (one) => one.collection)) {
      const source = this.catalog.find(collection);
      if (source === undefined) continue; // dropped meanwhile, with all it held
      for (let at = 0; at < wanted.length; at += chunkKeys) {
        const result = await rereadWrites(sql, source, wanted.slice(at, at + chunkKeys), signal);
        if (result.rowless.length > 0) onRowless?.(collection, result.rowless.map(keyText));
        if (part.changes.length > 0)
          yield this.batch({ heartbeat: false, bytes: part.bytes }, part.changes, null);
        part = { bytes: rowBytes(result.changes), changes: result.changes };
        stream.spend(part.bytes);
        stream.spend(part.bytes);
      }
    }
    if (joined.rereadConflicts.length > 0)
      part.changes.push(...(await rereadConflicts(sql, joined.rereadConflicts, signal)));
    yield this.batch({ heartbeat, bytes: part.bytes }, part.changes, position);
  }

  private batch(
    { heartbeat, bytes }: Pick<Joined, 'heartbeat' | 'bytes'>,
    changes: readonly Change[],
    position: Position | null,
  ): LogBatch {
    const { commitLsn, commitTimeMs } = this.current();
    if (position !== null) {
      this.transaction = null;
      this.passed = null;
      this.reached = position;
    }
    const all = heartbeat ? [...changes, { kind: 'heartbeat' } as const] : changes;
    return {
      origin: this.options.origin,
      stream: 0,
      changes: all,
      position,
      commitTimeMs,
      commitLsn,
      bytes,
    };
  }

  private passedBatch(): LogBatch {
    const position = this.passed!;
    this.passed = null;
    this.reached = position;
    return {
      origin: this.options.origin,
      stream: 0,
      changes: [],
      position,
      commitTimeMs: 0,
      commitLsn: position,
      bytes: 0,
    };
  }
}

const rowBytes = (changes: readonly WriteChange[]): number =>
  changes.reduce(
    (sum, { row }) => (row?.values ?? []).reduce((bytes, value) => bytes + (value?.length ?? 0), sum),
    0,
  );
