/**
 * What versioning costs a writer: upserts of rows of 768 dimensions into a collection and into the same table without triggers, in turns, on the
 * same server. Bulk: batches of 500 on two connections. Single: one row a transaction on eight connections.
 *
 *     node dist/bench/trigger-cost.bench.js [bulk] [single]
 */
import type pg from 'pg';
import { connect } from '#core/postgres/connect.pg.ts';
import type { TestMaster } from '#core/testing/masters.pg.ts';
import { foundCluster } from '#core/topology/found.pg.ts';
import { serverCpuMs } from './setup/cpu.ts';
import { chosen, finish, full, median, rate, rounds, show, title, whole } from './setup/figures.ts';
import {
  addresses,
  clusterName,
  makeCollection,
  makePlainTable,
  noIndex,
  settle,
  startBenchMasters,
} from './setup/masters.ts';
import { RowSource, rowId, upsertMany, upsertOne, type Batch } from './setup/rows.ts';

type Table = 'plain' | 'versioned';

interface Workload {
  readonly title: string;
  readonly connections: number;
  /** Written at a time to one table, before it is the other's turn. */
  readonly blockRows: number;
  /** Makes all that a block sends; what comes back sends it. */
  prepare(source: RowSource, prefix: string): (clients: readonly pg.Client[], table: Table) => Promise<void>;
}

const bulkSize = 500;
const bulkBlockRows = 2000;
const singleBlockRows = 500;
/** Blocks of each table in a phase of a round. */
const blocks = full ? 40 : 10;

const workloads: Readonly<Record<'bulk' | 'single', Workload>> = {
  bulk: {
    title: `batches of ${bulkSize} on 2 connections`,
    connections: 2,
    blockRows: bulkBlockRows,
    prepare: (source, prefix) => {
      const batches = [...source.batches(prefix, bulkBlockRows, bulkSize)];
      return (clients, table) =>
        share(clients, batches, (client, batch: Batch) => upsertMany(client, table, batch));
    },
  },
  single: {
    title: 'one row a transaction on 8 connections',
    connections: 8,
    blockRows: singleBlockRows,
    prepare: (source, prefix) => {
      const writes = Array.from({ length: singleBlockRows }, (_, at) => ({
        id: rowId(prefix, at),
        vector: source.vector(),
      }));
      return (clients, table) =>
        share(clients, writes, (client, { id, vector }) => upsertOne(client, table, id, vector));
    },
  },
};

/** Every connection takes the next item as soon as it is free. */
async function share<T>(
  clients: readonly pg.Client[],
  items: readonly T[],
  work: (client: pg.Client, item: T) => Promise<unknown>,
): Promise<void> {
  let next = 0;
  await Promise.all(
    clients.map(async (client) => {
      while (next < items.length) await work(client, items[next++]!);
    }),
  );
}

interface Rates {
  readonly plain: number[];
  readonly versioned: number[];
  /** Processor time of the whole phase, in ms. */
  readonly cpuMs: Record<Table, { server: number; client: number; rows: number }>;
}

const noRates = (): Rates => ({
  plain: [],
  versioned: [],
  cpuMs: {
    plain: { server: 0, client: 0, rows: 0 },
    versioned: { server: 0, client: 0, rows: 0 },
  },
});

/** Blocks of both tables in turns, so short that whatever else the machine does meets both alike. */
async function measure(
  clients: readonly pg.Client[],
  source: RowSource,
  options: { workload: Workload; node: TestMaster; round: number; rates: Rates },
): Promise<void> {
  const { workload, node, round, rates } = options;
  for (let block = 0; block < blocks; block += 1) {
    const order = block % 2 === 0 ? (['plain', 'versioned'] as const) : (['versioned', 'plain'] as const);
    for (const table of order) {
      const send = workload.prepare(source, `r${round}b${block}`);
      const serverBeganMs = serverCpuMs(node);
      const clientBegan = process.cpuUsage();
      const began = performance.now();
      await send(clients, table);
      rates[table].push(rate(workload.blockRows, performance.now() - began));
      const { user, system } = process.cpuUsage(clientBegan);
      const cpu = rates.cpuMs[table];
      cpu.client += (user + system) / 1000;
      cpu.server += serverCpuMs(node) - serverBeganMs;
      cpu.rows += workload.blockRows;
    }
  }
}

async function run(workload: Workload): Promise<void> {
  const { title: about, connections, blockRows } = workload;
  title(`Upserts of 768-d rows, ${about}, ${rounds} rounds of ${blocks} blocks of ${whole(blockRows)} rows`);
  await using masters = await startBenchMasters(1);
  const [node] = masters.nodes;
  await foundCluster({ nodes: addresses(masters.nodes), cluster: clusterName, log: 'wal' });
  await makeCollection(masters.nodes, 'versioned', noIndex);
  const clients = await Promise.all(
    Array.from({ length: connections }, () => connect(node!, { application: 'bench' })),
  );
  try {
    await makePlainTable(clients[0]!, 'plain', noIndex);
    const source = await RowSource.of(clients[0]!);
    const found: Record<'inserting' | 'updating', Rates> = {
      inserting: noRates(),
      updating: noRates(),
    };
    for (let round = 0; round <= rounds; round += 1) {
      for (const phase of ['inserting', 'updating'] as const) {
        await settle(masters.nodes);
        // The first round only warms connections and caches.
        await measure(clients, source, {
          workload,
          node: node!,
          round,
          rates: round === 0 ? noRates() : found[phase],
        });
      }
    }
    for (const [phase, rates] of Object.entries(found)) {
      report(phase, rates);
      reportCpu(phase, rates);
    }
  } finally {
    await Promise.all(clients.map((client) => client.end()));
  }
}

/** What of the rate is the other programs' on this machine is not in these: on two cores their sum bounds the rate. */
function reportCpu(phase: string, { cpuMs }: Rates): void {
  const aRow = (table: Table, part: 'server' | 'client') => (cpuMs[table][part] * 1000) / cpuMs[table].rows;
  const all = (table: Table) => aRow(table, 'server') + aRow(table, 'client');
  for (const table of ['plain', 'versioned'] as const)
    show({
      name: `${phase}, ${table === 'plain' ? 'plain table' : 'collection'}, processor a row`,
      value: `${whole(aRow(table, 'server'))} us at the server, ${whole(aRow(table, 'client'))} us here`,
      ...(table === 'versioned' ? { ratio: all('plain') / all('versioned'), against: 'plain' } : {}),
    });
}

function report(phase: string, { plain, versioned }: Rates): void {
  const ratio = median(versioned.map((found, block) => found / plain[block]!));
  show({ name: `${phase}, plain table`, value: `${whole(median(plain))} rows/s` });
  show({
    name: `${phase}, collection`,
    value: `${whole(median(versioned))} rows/s`,
    ratio,
    against: 'plain',
    goal: { text: `at least 0.85${ratio < 0.8 ? ' (under 0.80 is a failure)' : ''}`, met: ratio >= 0.85 },
  });
}

for (const name of chosen(['bulk', 'single'])) await run(workloads[name]);
finish();
