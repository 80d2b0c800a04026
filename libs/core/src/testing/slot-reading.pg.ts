/** A slot read by a test instead of an edge: what the log delivers, as it comes. */
import pg from 'pg';
import { readStart, type EdgeStart } from '../apply/progress.pg.ts';
import type { LogBatch, WriteChange } from '../changelog/change.ts';
import type { WalChangeLog, WalOptions } from '../changelog/wal.pg.ts';
import { openWal, type TestCluster } from './cluster.pg.ts';
import { eventually, type WaitOptions } from './wait.process.ts';

/** Where the edge between two nodes of a cluster would go on. */
export async function startOf(cluster: TestCluster, origin: number, target: number): Promise<EdgeStart> {
  const client = new pg.Client({ connectionString: cluster.masters[target]!.url });
  await client.connect();
  try {
    return await readStart(client, { origin: cluster.nodes[origin]!.number, log: 'wal', lanes: 1 });
  } finally {
    await client.end();
  }
}

export interface ReadingOptions extends Partial<WalOptions> {
  readonly origin?: number;
  readonly target?: number;
  /** Where to begin; the edge's own position when left out. */
  readonly from?: bigint;
}

export class SlotReading implements AsyncDisposable {
  readonly log: WalChangeLog;
  readonly batches: LogBatch[] = [];
  /** Null while it runs and when it was stopped. */
  failure: unknown = null;
  readonly #abort = new AbortController();
  readonly #done: Promise<void>;

  private constructor(log: WalChangeLog, from: bigint) {
    this.log = log;
    this.#done = this.#read(from);
  }

  static async start(cluster: TestCluster, options: ReadingOptions = {}): Promise<SlotReading> {
    const { origin = 0, target = 1, from } = options;
    const start = await startOf(cluster, origin, target);
    return new SlotReading(openWal(cluster.nodes[origin]!, start, options), from ?? start.from.get(0)!);
  }

  async #read(from: bigint): Promise<void> {
    try {
      for await (const batch of this.log.read({ from: new Map([[0, from]]), signal: this.#abort.signal }))
        this.batches.push(batch);
    } catch (cause) {
      this.failure = cause;
    }
  }

  get writes(): WriteChange[] {
    return this.batches.flatMap((batch) => batch.changes.filter((change) => change.kind === 'write'));
  }

  /** The last position that was delivered. */
  get position(): bigint {
    return this.batches.findLast((batch) => batch.position !== null)?.position ?? 0n;
  }

  async until<T>(
    what: string,
    ask: (reading: this) => T,
    options?: WaitOptions,
  ): Promise<Exclude<T, false | null | undefined>> {
    const failed = Symbol('failed');
    const outcome: unknown = await eventually<unknown>(
      what,
      () => (this.failure === null ? ask(this) : failed),
      options,
    );
    if (outcome === failed) throw this.failure;
    return outcome as Exclude<T, false | null | undefined>;
  }

  async stop(): Promise<void> {
    this.#abort.abort();
    await this.log.close();
    await this.#done;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }
}

/** The text of a column that is text, in a delivered row. */
export const columnOf = (change: WriteChange, name: string): Buffer | null =>
  change.row!.values[change.row!.table.columns.findIndex((column) => column.name === name)] ?? null;
