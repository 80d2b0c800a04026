/**
 * Feeds the log of one origin: reads its WAL and appends to the log's writer. The position is kept on the origin, written only once the log holds
 * everything up to it, and confirmed to the slot only once it is written: so a slot that was made anew behind our back shows.
 */
import type { NodeAddress } from '../config/settings.ts';
import { failpoint } from '../faults/failpoint.process.ts';
import { closeClient, connect } from '../postgres/connect.pg.ts';
import { SessionLease } from '../postgres/session-lease.pg.ts';
import type { NodeNumber } from '../versioning/version.ts';
import { readStart, setProblem } from '../apply/progress.pg.ts';
import type { LogBatch } from './change.ts';
import type { ChangeLogReader, ChangeLogWriter } from './port.ts';
import type { EdgeStart } from '../apply/progress.pg.ts';

export interface FeedOptions {
  readonly origin: { readonly number: NodeNumber; readonly name: string; readonly address: NodeAddress };
  readonly openReader: (start: EdgeStart) => ChangeLogReader;
  readonly openWriter: () => Promise<ChangeLogWriter>;
  readonly batchSize: number;
  readonly idleProgressMs: number;
  /** Called once the WAL flows. */
  readonly onHealthy?: () => void;
  readonly onFed?: (changes: number) => void;
}

/** Appends that may be under way at once: the writer keeps their order. */
const appendsAhead = 8;
const bytesPerAppend = 2 * 1024 * 1024;

/** Runs once: until the signal aborts or something breaks. Of several processes one runs it, by a lease on the origin; the others wait. */
export async function runFeed(options: FeedOptions, signal: AbortSignal): Promise<void> {
  const lease = await SessionLease.take(options.origin.address, 'feed', signal, {
    onStandby: () => options.onHealthy?.(),
  });
  if (lease === null) return;
  const lost = new AbortController();
  try {
    await Promise.race([feedAlone(options, lease, AbortSignal.any([signal, lost.signal])), lease.whenLost()]);
  } finally {
    lost.abort();
    await lease.release();
  }
}

async function feedAlone(options: FeedOptions, lease: SessionLease, signal: AbortSignal): Promise<void> {
  const { origin } = options;
  const about = { origin: origin.number as number, log: 'capture' };
  const control = await connect(origin.address, {
    application: `pgquorum feed ${origin.name}`,
    answerWithinMs: 30_000,
  });
  let reader: ChangeLogReader | null = null;
  let writer: ChangeLogWriter | null = null;
  try {
    await lease.join(control);
    const start = await readStart(control, { ...about, lanes: 1 });
    writer = await options.openWriter();
    reader = options.openReader(start);
    const feed = new Feed(options, reader, writer, async (position) => {
      await control.query(
        'update pgquorum.progress set position = $3 where origin = $1 and log = $2 and position < $3',
        [about.origin, about.log, String(position)],
      );
    });
    let healthy = false;
    for await (const batch of reader.read({ from: start.from, signal })) {
      if (!healthy) {
        await setProblem(control, { ...about, problem: null });
        options.onHealthy?.();
      }
      healthy = true;
      await feed.take(batch);
    }
    await feed.finish();
  } catch (cause) {
    if (!signal.aborted)
      await setProblem(control, { ...about, problem: (cause as Error).message.slice(0, 500) }).catch(
        () => undefined,
      ); // the origin itself may be what is down
    throw cause;
  } finally {
    await reader?.close();
    await writer?.close();
    await closeClient(control);
  }
}

class Feed {
  private readonly options: FeedOptions;
  private readonly reader: ChangeLogReader;
  private readonly writer: ChangeLogWriter;
  private readonly save: (position: bigint) => Promise<void>;
  private gathered: LogBatch[] = [];
  private gatheredBytes = 0;
  private gatheredChanges = 0;
  private readonly underWay: Promise<void>[] = [];
  private appended: bigint | null = null;
  private savedMs = 0;
  private failure: unknown = null;
  private flushTimer: NodeJS.Immediate | null = null;

  constructor(
    options: FeedOptions,
    reader: ChangeLogReader,
    writer: ChangeLogWriter,
    save: (position: bigint) => Promise<void>,
  ) {
    this.options = options;
    this.reader = reader;
    this.writer = writer;
    this.save = save;
  }

  async take(batch: LogBatch): Promise<void> {
    if (this.failure !== null) throw this.failure;
    this.gathered.push(batch);
    this.gatheredBytes += batch.bytes;
    this.gatheredChanges += batch.changes.length;
    if (this.gatheredChanges >= this.options.batchSize || this.gatheredBytes >= bytesPerAppend) this.flush();
    else this.flushTimer ??= setImmediate(() => this.flush());
    while (this.underWay.length >= appendsAhead) await this.underWay[0];
  }

  private flush(): void {
    if (this.flushTimer !== null) clearImmediate(this.flushTimer);
    this.flushTimer = null;
    const batches = this.gathered;
    if (batches.length === 0) return;
    const changes = this.gatheredChanges;
    this.gathered = [];
    this.gatheredBytes = 0;
    this.gatheredChanges = 0;
    const position = batches.findLast((batch) => batch.position !== null)?.position ?? null;
    const filled = batches.filter((batch) => batch.changes.length > 0);
    const before = this.underWay.at(-1) ?? Promise.resolve();
    const appending = filled.length === 0 ? Promise.resolve() : this.writer.append(filled);
    this.underWay.push(this.advance(Promise.all([before, appending]), position, changes));
  }

  /** In order: a position counts only when everything before it is held too. Never rejects: a failure stops the feed at its next batch. */
  private async advance(durable: Promise<unknown>, position: bigint | null, changes: number): Promise<void> {
    try {
      await durable;
      if (this.failure !== null) return;
      if (changes > 0) failpoint('feed-appended');
      if (position !== null) await this.held(position);
      this.options.onFed?.(changes);
    } catch (cause) {
      this.failure ??= cause;
    } finally {
      void this.underWay.shift();
    }
  }

  private async held(position: bigint): Promise<void> {
    this.appended = position;
    if (Date.now() - this.savedMs < this.options.idleProgressMs) return;
    await this.saveHeld();
  }

  private async saveHeld(): Promise<void> {
    if (this.appended === null) return;
    const position = this.appended;
    this.savedMs = Date.now();
    await this.save(position);
    failpoint('feed-position-saved');
    this.reader.confirm(0, position);
  }

  async finish(): Promise<void> {
    this.flush();
    await Promise.all(this.underWay);
    if (this.failure !== null) throw this.failure;
    await this.saveHeld();
  }
}
