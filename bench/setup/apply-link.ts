/**
 * The apply stage alone, in this process: the edge that replicators run, but its log is in memory, decoded. What it reads is what the origin's WAL said,
 * read beforehand through the slot of the edge.
 */
import type { LogBatch } from '#core/changelog/change.ts';
import type { ChangeLogReader } from '#core/changelog/port.ts';
import { WalChangeLog } from '#core/changelog/wal.pg.ts';
import { runEdge } from '#core/apply/edge.pg.ts';
import { readStart, type EdgeStart } from '#core/apply/progress.pg.ts';
import { loadSettings } from '#core/config/settings.ts';
import { createLogger } from '#core/observability/logger.process.ts';
import { closeClient, connect } from '#core/postgres/connect.pg.ts';
import type { ClusterNode } from '#core/topology/found.pg.ts';
import { processCpuMs } from './cpu.ts';
import { dropOriginIndex, type Link } from './link.ts';
import { clusterName, makeCollection, removeCollection, type Pair } from './masters.ts';

export interface ApplyLink extends Link {
  /** Takes what waits in the slot into memory, up to this many changes. */
  gather(changes: number): Promise<void>;
}

const { applyLanes, batchSize, syncIntervalMs, transactionBytesMax } = loadSettings({});

export async function makeApplyLink(pair: Pair, table: string): Promise<ApplyLink> {
  const index = { type: 'none' } as const;
  await makeCollection(pair.masters.nodes, table, index);
  await dropOriginIndex(pair, table, index);
  const [origin, target] = pair.cluster as [ClusterNode, ClusterNode];
  const end = new AbortController();
  let held: LogBatch[] = [];
  let running: Promise<void> = Promise.resolve();
  let cpuBeforeMs = 0;
  return {
    table,
    processes: [],
    gather: async (changes) => {
      held = await read(origin, await startOf(origin, target), changes);
    },
    start: async () => {
      cpuBeforeMs = processCpuMs(process.pid);
      running = runEdge(
        {
          cluster: clusterName,
          origin,
          target,
          log: 'wal',
          openReader: async () => new HeldLog(origin, held),
          lanes: applyLanes,
          batchSize,
          syncIntervalMs,
          idleProgressMs: 1000,
          logger: createLogger({ app: 'bench', level: 'warn' }),
        },
        end.signal,
      );
    },
    cpuMs: () => processCpuMs(process.pid) - cpuBeforeMs,
    [Symbol.asyncDispose]: async () => {
      end.abort();
      await running;
      await removeCollection(pair.masters.nodes, table);
    },
  };
}

async function startOf(origin: ClusterNode, target: ClusterNode): Promise<EdgeStart> {
  const control = await connect(target.address, { application: 'bench' });
  try {
    return await readStart(control, { origin: origin.number, log: 'wal', lanes: applyLanes });
  } finally {
    await closeClient(control);
  }
}

async function read(origin: ClusterNode, start: EdgeStart, changes: number): Promise<LogBatch[]> {
  const log = new WalChangeLog({
    node: origin.address,
    origin: origin.number,
    slot: start.source.slot!,
    publication: start.source.publication,
    transactionBytesMax,
  });
  const batches: LogBatch[] = [];
  let count = 0;
  const enough = new AbortController();
  for await (const batch of log.read({ from: start.from, signal: enough.signal })) {
    batches.push(batch);
    count += batch.changes.filter(({ kind }) => kind === 'write').length;
    if (count >= changes) break;
  }
  await log.close();
  return batches;
}

/** Gives out what it holds, then has nothing more until it is told to end. Its edge's progress stands in the target, so the slot is told by the next reader. */
class HeldLog implements ChangeLogReader {
  readonly origin: ClusterNode['number'];
  readonly #batches: readonly LogBatch[];

  constructor(origin: ClusterNode, batches: readonly LogBatch[]) {
    this.origin = origin.number;
    this.#batches = batches;
  }

  async *read({ signal }: { signal: AbortSignal }): AsyncGenerator<LogBatch> {
    for (const batch of this.#batches) {
      if (signal.aborted) return;
      yield batch;
    }
    if (!signal.aborted)
      await new Promise((resolve) => signal.addEventListener('abort', resolve, { once: true }));
  }

  confirm(): void {}

  async positions() {
    return new Map();
  }

  async close(): Promise<void> {}
}
