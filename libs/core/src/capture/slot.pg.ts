/**
 * One logical replication slot as a stream of raw pgoutput messages, through pg-logical-replication with its traps avoided:
 * - its standby timer acknowledges what was received, not what is held (`timeoutSeconds: 0`), so every status is sent from here;
 * - its `acknowledge(lsn)` confirms lsn + 1, one byte into the next record, and a commit that begins there would be skipped: pass lsn - 1;
 * - messages are slices of a buffer that the driver uses again: they are copied before they wait;
 * - its flow control calls keepalives before the messages that wait: here they wait in one queue;
 * - it makes texts of LSNs and a promise for every message, which takes longer than to read it: data goes past it.
 *
 * Invariants: one reader per slot (an advisory lock that lives and dies with the replication connection); never confirms more than it was
 * told; holds at most about `aheadBytesMax` (the socket is paused beyond it) and still answers the server meanwhile.
 */
import type { EventEmitter } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import type pg from 'pg';
import type { LogicalReplicationService } from 'pg-logical-replication';
import type { Pace } from '../bandwidth/pace.ts';
import type { NodeAddress } from '../config/settings.ts';
import { PgquorumError } from '../errors/error.ts';
import { clientConfig } from '../postgres/connect.pg.ts';
import { quoteName, quoteText } from '../postgres/identifier.ts';
import { requireConfirmedOn } from '../topology/confirmed.pg.ts';
import type { ClusterNode } from '../topology/found.pg.ts';
import { publicationName } from '../topology/names.ts';
import { lsnFromText, lsnText } from './lsn.ts';
import { replicationService } from './replication-service.pg.ts';

export type SlotMessage =
  { readonly kind: 'data'; readonly message: Buffer } | { readonly kind: 'keepalive'; readonly lsn: bigint };

export interface SlotOptions {
  readonly node: NodeAddress;
  readonly slot: string;
  /** Everything up to here is held already. */
  readonly from: bigint;
  /** Oid of the publication that the slot was made for; null = not checked. */
  readonly publication: number | null;
  /** Then `slot` is a temporary one, a copy of the newest of these that still holds what follows `from`; it goes with the connection. */
  readonly copyOf?: readonly string[] | undefined;
  /** The caller has the sole right to read the slot: another reader is left from a process that had it before, and is ended. */
  readonly sole?: boolean | undefined;
  /** It reads only from a server that was found to be this node since it was started. */
  readonly confirmed?: Pick<ClusterNode, 'name' | 'number'> | undefined;
  readonly aheadBytesMax?: number;
  readonly statusIntervalMs?: number;
  readonly beginsWithinMs?: number;
  /** How fast it may read. */
  readonly pace?: Pace | undefined;
}

/** How long a reader that was told to end may take. */
const leftReaderWithinMs = 10_000;
/** How long it may take until the stream has begun, with all that is asked before: a server that fell silent on the way says nothing more. */
const beginsWithinMsDefault = 30_000;

/** What of the driver's connection is used here. */
interface Connection extends EventEmitter {
  readonly stream: { pause(): void; resume(): void; destroy(): void };
}

interface CopyData {
  readonly chunk: Buffer;
}

/** https://www.postgresql.org/docs/current/protocol-replication.html#PROTOCOL-REPLICATION-XLOGDATA */
const xLogData = { kind: 0x77, headerBytes: 25 } as const;

/** A limit that is raised meanwhile holds after so long. */
const paceCheckMs = 250;

interface ServerFacts {
  readonly version: number;
}

/** Copies messages into blocks of its own: one allocation for hundreds of rows. */
class Arena {
  private block = Buffer.allocUnsafeSlow(256 * 1024);
  private used = 0;

  /** What comes after `skipped` bytes. */
  copy(bytes: Buffer, skipped: number): Buffer {
    if (bytes.length > 64 * 1024) return Buffer.from(bytes.subarray(skipped));
    if (this.used + bytes.length > this.block.length) {
      this.block = Buffer.allocUnsafeSlow(256 * 1024);
      this.used = 0;
    }
    const start = this.used;
    this.block.set(bytes, start);
    this.used += bytes.length;
    return this.block.subarray(start + skipped, this.used);
  }
}

/** The library's own plugin can ask neither for binary values nor for an origin, and parses more than is needed. */
class BinaryPgoutput {
  readonly name = 'pgoutput';
  readonly options: { readonly prepare: (client: pg.Client) => Promise<ServerFacts> };

  constructor(options: BinaryPgoutput['options']) {
    this.options = options;
  }

  async start(client: pg.Client, slot: string, from: string): Promise<unknown> {
    const server = await this.options.prepare(client);
    const options = [`proto_version '1'`, `publication_names '${publicationName}'`, `binary 'true'`];
    // Saves decoding what replication applied, where the appliers may mark it so. Nothing depends on it: such versions say so themselves.
    if (server.version >= 160000) options.push(`origin 'none'`);
    return client.query(`START_REPLICATION SLOT ${quoteName(slot)} LOGICAL ${from} (${options.join(', ')})`);
  }

  /** Not called: see `listen`. */
  parse(message: Buffer): Buffer {
    return message;
  }
}

export class SlotStream {
  private readonly options: SlotOptions;
  private readonly service: LogicalReplicationService;
  private readonly queue: SlotMessage[] = [];
  private head = 0;
  private queuedBytes = 0;
  /** For too much that waits here, and for the pace; the socket is read while it is neither. */
  private paused = false;
  private held: NodeJS.Timeout | null = null;
  private failure: unknown = null;
  private readonly failed = Promise.withResolvers<void>();
  private ended = false;
  private wake: (() => void) | null = null;
  private socket: { pause(): void; resume(): void; destroy(): void } | null = null;
  private confirmed: bigint;
  private statusTimer: NodeJS.Timeout | null = null;
  private readonly aheadBytesMax: number;
  private heardMs = Date.now();
  private readonly arena = new Arena();

  constructor(options: SlotOptions) {
    this.options = options;
    this.confirmed = options.from;
    this.aheadBytesMax = options.aheadBytesMax ?? 8 * 1024 * 1024;
    this.service = replicationService(
      clientConfig(options.node, { application: `pgquorum ${options.slot}` }),
    );
  }

  /** What waits here for `next`. At most the bound and what one read of the socket brings beyond it. */
  get bytesAhead(): number {
    return this.queuedBytes;
  }

  /** Resolves when the stream has begun; rejects with `slot_in_use` or `position_lost` when it may not. */
  async open(): Promise<void> {
    const { slot, from } = this.options;
    const plugin = new BinaryPgoutput({ prepare: (client) => this.prepare(client) });
    this.service.on('heartbeat', (lsn, _time, shouldRespond) => {
      this.enqueue({ kind: 'keepalive', lsn: lsnFromText(lsn) }, 0);
      if (shouldRespond) this.sendStatus();
    });
    this.service.on('error', (cause) => this.fail(cause));
    const started = new Promise<void>((resolve) => {
      this.service.on('start', () => resolve());
    });
    const subscribed = this.service.subscribe(plugin, slot, lsnText(from)).then(
      () => this.fail(new PgquorumError('node_unreachable', `the server ended the stream of slot ${slot}`)),
      (cause: unknown) => this.fail(cause),
    );
    const late = setTimeout(
      () =>
        this.fail(
          new PgquorumError(
            'node_unreachable',
            `the server has not begun the stream of slot ${slot} in time`,
          ),
        ),
      this.options.beginsWithinMs ?? beginsWithinMsDefault,
    );
    await Promise.race([started, subscribed, this.failed.promise]).finally(() => clearTimeout(late));
    if (this.failure !== null) {
      await this.close();
      throw this.failure;
    }
    this.heardMs = Date.now();
    this.statusTimer = setInterval(() => this.checkLife(), this.options.statusIntervalMs ?? 5000);
  }

  /** Runs on the replication connection before it starts to stream. */
  private async prepare(client: pg.Client): Promise<ServerFacts> {
    const { connection } = client as unknown as { connection: Connection };
    this.socket = connection.stream;
    this.listen(connection);
    if (this.options.confirmed !== undefined) await requireConfirmedOn(client, this.options.confirmed);
    await this.copySlot(client);
    await this.lock(client);
    await this.checkSlot(client);
    const version = await client.query<{ server_version_num: string }>('show server_version_num');
    return { version: Number(version.rows[0]!.server_version_num) };
  }

  private async lock(client: pg.Client): Promise<void> {
    const { slot, sole } = this.options;
    const key = `hashtextextended(${quoteText(slot)}, 7308895)`;
    const deadline = performance.now() + leftReaderWithinMs;
    for (;;) {
      const locked = await client.query<{ locked: boolean }>(`select pg_try_advisory_lock(${key}) as locked`);
      if (locked.rows[0]!.locked) return;
      if (sole !== true || performance.now() > deadline)
        throw new PgquorumError('slot_in_use', `slot ${slot} has another reader`);
      await client.query(
        `select pg_terminate_backend(l.pid) from pg_locks l where l.locktype = 'advisory' and l.objsubid = 1 and l.granted and ((l.classid::bigint << 32) | l.objid::bigint) = ${key}
           and l.database = (select d.oid from pg_database d where d.datname = current_database())`,
      );
      await sleep(20);
    }
  }

  /** Slots that others read may be copied while they do; what a copy begins with is decoded in passing, so the newest is the cheapest. */
  private async copySlot(client: pg.Client): Promise<void> {
    const { slot, from, copyOf } = this.options;
    if (copyOf === undefined) return;
    const found = await client.query<{ slot_name: string }>(
      `select slot_name from pg_replication_slots where slot_name in (${copyOf.map(quoteText).join(', ')}) and database = current_database() and plugin = 'pgoutput' and wal_status <> 'lost'
         and confirmed_flush_lsn <= ${quoteText(lsnText(from))}::pg_lsn order by confirmed_flush_lsn desc limit 1`,
    );
    const source = found.rows[0];
    if (source === undefined)
      throw new PgquorumError('position_lost', `no slot holds what follows ${lsnText(from)} any more`);
    await client.query(
      `select pg_copy_logical_replication_slot(${quoteText(source.slot_name)}, ${quoteText(slot)}, true)`,
    );
  }

  /** Takes data for itself; the library goes on to hear of everything else. */
  private listen(connection: Connection): void {
    const others = connection.listeners('copyData') as ((message: CopyData) => void)[];
    connection.removeAllListeners('copyData');
    connection.on('copyData', (message: CopyData) => {
      if (message.chunk[0] !== xLogData.kind) {
        for (const listener of others) listener(message);
        return;
      }
      const data = this.arena.copy(message.chunk, xLogData.headerBytes);
      this.enqueue({ kind: 'data', message: data }, data.length);
    });
  }

  /** The slot must hold everything after `from`, and the publication must be the one it was made with: a name alone proves nothing. */
  private async checkSlot(client: pg.Client): Promise<void> {
    const { slot, from, publication } = this.options;
    const found = await client.query<{
      confirmed: string | null;
      status: string | null;
      here: boolean;
      plugin: string;
      in_use: boolean | null;
    }>(
      `select confirmed_flush_lsn::text as confirmed, wal_status as status, database = current_database() as here, plugin, active_pid <> pg_backend_pid() as in_use from pg_replication_slots where slot_name = ${quoteText(slot)}`,
    );
    const row = found.rows[0];
    const lost = (why: string) => new PgquorumError('position_lost', `slot ${slot} ${why}`);
    if (row === undefined) throw lost('is missing: it was dropped, or a failover left it behind');
    if (!row.here || row.plugin !== 'pgoutput') throw lost('belongs to another database or plugin');
    if (row.status === 'lost' || row.confirmed === null)
      throw lost('was invalidated: the server removed WAL that it needed');
    if (lsnFromText(row.confirmed) > from)
      throw lost(
        `begins at ${row.confirmed}, after ${lsnText(from)} up to which changes are held: it was made anew, or someone else read it`,
      );
    if (row.in_use === true)
      throw new PgquorumError('slot_in_use', `slot ${slot} is still active for another process`);
    const here = await client.query<{ oid: string }>(
      `select oid::text as oid from pg_publication where pubname = '${publicationName}'`,
    );
    if (here.rows.length === 0) throw lost(`has no publication ${publicationName} any more`);
    if (publication !== null && Number(here.rows[0]!.oid) !== publication)
      throw lost(`was made for another publication ${publicationName}: that one was dropped and made anew`);
  }

  private enqueue(message: SlotMessage, bytes: number): void {
    this.heardMs = Date.now();
    const last = this.queue.length > this.head ? this.queue[this.queue.length - 1] : undefined;
    if (message.kind === 'keepalive' && last?.kind === 'keepalive')
      this.queue[this.queue.length - 1] = message;
    else this.queue.push(message);
    this.queuedBytes += bytes;
    if (!this.paused && this.queuedBytes > this.aheadBytesMax) {
      this.paused = true;
      this.socket?.pause();
    }
    if (bytes > 0) this.spend(bytes);
    this.notify();
  }

  /** Counts what was read, here or elsewhere on behalf of the stream, and reads no further before its time. */
  spend(bytes: number): void {
    this.options.pace?.spend(bytes);
    if (this.held === null) this.hold();
  }

  private hold(): void {
    const waitMs = this.options.pace?.waitMs() ?? 0;
    if (waitMs > 0 && !this.ended) {
      this.socket?.pause();
      this.held = setTimeout(() => this.hold(), Math.min(waitMs, paceCheckMs));
      return;
    }
    if (this.held === null) return;
    this.held = null;
    this.heardMs = Date.now();
    if (!this.paused) this.socket?.resume();
  }

  /** The next message, or null when the stream has ended by `close` or the signal. Rejects when the stream broke. */
  async next(signal: AbortSignal): Promise<SlotMessage | null> {
    for (;;) {
      const message = this.poll();
      if (message !== null) return message;
      if (this.ended || signal.aborted) return null;
      if (this.failure !== null) throw this.failure;
      await new Promise<void>((resolve) => {
        const woken = () => {
          signal.removeEventListener('abort', woken);
          this.wake = null;
          resolve();
        };
        this.wake = woken;
        signal.addEventListener('abort', woken, { once: true });
      });
    }
  }

  /** What is here already, without waiting. */
  poll(): SlotMessage | null {
    const message = this.queue[this.head];
    if (message === undefined) return null;
    this.head += 1;
    if (this.head > 1024 && this.head * 2 > this.queue.length) {
      this.queue.splice(0, this.head);
      this.head = 0;
    }
    if (message.kind === 'data') {
      this.queuedBytes -= message.message.length;
      if (this.paused && this.queuedBytes < this.aheadBytesMax / 2) {
        this.paused = false;
        this.heardMs = Date.now();
        if (this.held === null) this.socket?.resume();
      }
    }
    return message;
  }

  /** Everything before `lsn` is held durably elsewhere. The server may forget it. */
  confirm(lsn: bigint): void {
    if (lsn <= this.confirmed) return;
    this.confirmed = lsn;
    this.sendStatus();
  }

  /** Asks the server for a sign of life with every status; one that stays silent is given up: its machine may be gone without a word. */
  private checkLife(): void {
    const silentMs = Date.now() - this.heardMs;
    if (!this.paused && this.held === null && silentMs > 4 * (this.options.statusIntervalMs ?? 5000)) {
      this.fail(
        new PgquorumError(
          'node_unreachable',
          `the server of slot ${this.options.slot} has been silent for ${silentMs} ms`,
        ),
      );
      return;
    }
    this.sendStatus(true);
  }

  private sendStatus(ping = false): void {
    if (this.ended || this.service.isStop()) return;
    this.service.acknowledge(lsnText(this.confirmed - 1n), ping).catch((cause: unknown) => this.fail(cause));
  }

  private fail(cause: unknown): void {
    this.failure ??= cause ?? new PgquorumError('node_unreachable', 'the replication stream ended');
    this.failed.resolve();
    this.notify();
  }

  private notify(): void {
    this.wake?.();
  }

  async close(): Promise<void> {
    if (this.ended) return;
    this.sendStatus();
    this.ended = true;
    if (this.statusTimer !== null) clearInterval(this.statusTimer);
    if (this.held !== null) clearTimeout(this.held);
    this.socket?.resume();
    // A server that does not answer any more must not hold up the shutdown.
    const hurry = setTimeout(() => this.socket?.destroy(), 2000);
    await this.service.destroy().catch(() => undefined); // the connection is gone either way
    clearTimeout(hurry);
    this.notify();
  }
}
