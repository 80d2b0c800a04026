/** One table that is replicated from one master to another, natively or by pgquorum: the same steps for each, so that figures compare. */
import { setTimeout as delay } from 'node:timers/promises';
import type { CollectionDefinition } from '#core/collections/definition.ts';
import { processCpuMs, serverCpuMs } from './cpu.ts';
import { makeCollection, removeCollection, type Pair } from './masters.ts';
import { replicateNatively } from './native.ts';
import { startReplicators, stopReplicators, type ReplicatorProcess } from './replicator.ts';

export type LinkKind = 'native' | 'wal' | 'kafka';

export interface LinkOptions {
  readonly kind: LinkKind;
  readonly pair: Pair;
  readonly table: string;
  readonly index: CollectionDefinition['index'];
  readonly kafkaBrokers?: readonly string[] | undefined;
}

/** Made stopped: what is written before `start` waits in the slot. */
export interface Link extends AsyncDisposable {
  readonly table: string;
  start(): Promise<void>;
  /** None when Postgres does it itself. */
  readonly processes: readonly ReplicatorProcess[];
  /** Processor time of what replicates outside of the servers, since `start`. */
  cpuMs(): number;
}

const cpuOf = (processes: readonly ReplicatorProcess[]): number =>
  processes.reduce((sum, { pid }) => sum + processCpuMs(pid), 0);

export async function makeLink({ kind, pair, table, index, kafkaBrokers }: LinkOptions): Promise<Link> {
  if (kind === 'native') {
    const native = await replicateNatively(pair, table, index);
    await dropOriginIndex(pair, table, index);
    return {
      table,
      start: () => native.enable(),
      processes: [],
      cpuMs: () => 0,
      [Symbol.asyncDispose]: () => native[Symbol.asyncDispose](),
    };
  }
  await makeCollection(pair.masters.nodes, table, index);
  await dropOriginIndex(pair, table, index);
  const processes: ReplicatorProcess[] = [];
  return {
    table,
    start: async () => {
      processes.push(...(await startReplicators(pair, kafkaBrokers)));
    },
    processes,
    cpuMs: () => cpuOf(processes),
    [Symbol.asyncDispose]: async () => {
      await stopReplicators(processes);
      await removeCollection(pair.masters.nodes, table);
    },
  };
}

/** Only what the index costs the peer is looked at. */
export async function dropOriginIndex(
  pair: Pair,
  table: string,
  index: CollectionDefinition['index'],
): Promise<void> {
  if (index.type !== 'none') await pair.atOrigin.query(`drop index public.${table}_embedding`);
}

export async function countAtPeer(pair: Pair, table: string): Promise<number> {
  const found = await pair.atPeer.query<{ rows: string }>(`select count(*) as rows from public.${table}`);
  return Number(found.rows[0]!.rows);
}

export interface Drained {
  readonly rowsPerSecond: number;
  /** From the start to the first row: connecting and starting processes, which a rate should not depend on. */
  readonly startMs: number;
  /** Microseconds of processor time a row, of the servers and of the replicators; the latter with what their start costs. */
  readonly cpuUs: { readonly origin: number; readonly peer: number; readonly replicators: number };
  /** MiB that each replicator had resident at its highest. */
  readonly memory: readonly number[];
}

const pollMs = 20;
/** Counting rows costs the peer the more of its time the more there are, so they are counted less while the end is far. */
const pollMsMax = 300;
const drainMsMax = 900_000;

/** Starts the link and waits until the peer has `rows` rows. The rate counts from the first rows seen there. */
export async function drain(link: Link, pair: Pair, rows: number): Promise<Drained> {
  const began = performance.now();
  const before = { origin: serverCpuMs(pair.origin), peer: serverCpuMs(pair.peer) };
  await link.start();
  let first: { readonly at: number; readonly rows: number } | undefined;
  for (;;) {
    const here = await countAtPeer(pair, link.table);
    const now = performance.now();
    if (here > 0) first ??= { at: now, rows: here };
    if (first !== undefined && here >= rows) {
      const counted = rows - first.rows;
      if (counted <= 0) throw new Error('all rows came at once: too few to measure');
      const perRow = (ms: number) => (ms * 1000) / rows;
      const cpuUs = {
        origin: perRow(serverCpuMs(pair.origin) - before.origin),
        peer: perRow(serverCpuMs(pair.peer) - before.peer),
        replicators: perRow(link.cpuMs()),
      };
      const memory = link.processes.map((process) => process.memory().highest);
      return { rowsPerSecond: (counted * 1000) / (now - first.at), startMs: first.at - began, cpuUs, memory };
    }
    if (now - began > drainMsMax)
      throw new Error(
        `only ${here} of ${rows} rows arrived:\n${link.processes.map((one) => one.complaints).join('\n')}`,
      );
    const done = first === undefined ? 0 : (here - first.rows) / (now - first.at);
    await delay(done > 0 ? Math.min(pollMsMax, Math.max(pollMs, (rows - here) / done / 4)) : pollMs);
  }
}
