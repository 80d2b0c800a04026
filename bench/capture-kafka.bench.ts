/**
 * From the WAL to Kafka, one process, against Debezium (tuned, and warmed by 100,000 rows) on the same broker: how fast a backlog drains, for rows of 768
 * dimensions and for rows of 200 bytes, and how long after its commit a row is in the topic at 500 writes a second. Each has a Postgres of its own with
 * the same settings, since a server decodes what all tables wrote for every slot; the triggers' version rows are in ours. One partition each.
 *
 * Rates count from a tenth of the backlog on: neither the start of a process nor its first rows are in them. Times are the broker's.
 *
 *     node dist/bench/capture-kafka.bench.js [768] [200] [latency]
 */
import type pg from 'pg';
import { join } from 'node:path';
import { closeClient, connect } from '#core/postgres/connect.pg.ts';
import { startKafka, type KafkaBroker } from '#core/testing/broker.kafka.ts';
import { connectorName } from '#core/testing/kafka-jars.os.ts';
import type { Masters } from '#core/testing/masters.pg.ts';
import { foundCluster } from '#core/topology/found.pg.ts';
import { topicName } from '#core/topology/names.ts';
import { processCpuMs, serverCpuMs } from './setup/cpu.ts';
import { Debezium, debeziumTopic } from './setup/debezium.ts';
import { chosen, finish, full, median, quantile, rate, rounds, say, show, size, title, whole } from './setup/figures.ts'; // prettier-ignore
import { javaName } from './setup/java.ts';
import { addresses, clusterName, makeCollection, makePlainTable, noIndex, settle, startBenchMasters } from './setup/masters.ts'; // prettier-ignore
import { ReplicatorProcess } from './setup/replicator.ts';
import { RowSource, smallRows, upsertMany, wideRows, type RowShape } from './setup/rows.ts';
import { writeOnSchedule } from './setup/scheduled-writes.ts';
import { TopicClock } from './setup/topic-clock.ts';

const shapes = {
  '768': { shape: wideRows, table: 'wide', rows: size('ROWS_768', full ? 100_000 : 30_000), goal: 2 },
  '200': { shape: smallRows, table: 'small', rows: size('ROWS_200', full ? 1_000_000 : 200_000), goal: 0.7 },
} as const;
const tables = Object.values(shapes).map(({ table }) => table);
const warmUpRows = size('WARM_UP_ROWS', 100_000);
const transactionRows = 100;
const writesPerSecond = 500;
const latencySeconds = size('SECONDS', full ? 60 : 10);
const latencyWarmUp = 2 * writesPerSecond;
const writers = 8;
const withinMs = 900_000;
const memoryMax = 512;

interface Drained {
  readonly rowsPerSecond: number;
  /** Microseconds of processor time a row, of the process and of the server, its start included. */
  readonly cpuUs: number;
  readonly serverUs: number;
  /** MiB, at its highest. */
  readonly memory: number;
}

/** What is measured of either side. */
interface Side extends AsyncDisposable {
  readonly masters: Masters;
  readonly client: pg.Client;
  topic(table: string): string;
  /** What is written from now on waits. */
  stop(): Promise<void>;
  resume(): Promise<void>;
  cpuMs(): number;
  memory(): number;
}

async function startTheirs(broker: KafkaBroker): Promise<Side> {
  const masters = await startBenchMasters(1);
  const [master] = masters.nodes;
  const client = await connect(master!, { application: 'bench' });
  for (const { table, shape } of Object.values(shapes))
    await makePlainTable(client, table, noIndex, shape.dimension);
  for (const table of tables) {
    await using clock = await TopicClock.open(broker.brokers, debeziumTopic(table));
    await clock.make();
  }
  const folder = join(masters.folder, 'connect');
  const debezium = await Debezium.start({ folder, master: master!, brokers: broker.brokers, tables });
  return {
    masters,
    client,
    topic: debeziumTopic,
    stop: () => debezium.stop(),
    resume: () => debezium.resume(),
    cpuMs: () => processCpuMs(debezium.pid),
    memory: () => debezium.memory,
    [Symbol.asyncDispose]: async () => {
      await debezium[Symbol.asyncDispose]();
      await closeClient(client);
      await masters[Symbol.asyncDispose]();
    },
  };
}

/** Begins stopped. */
async function startOurs(broker: KafkaBroker): Promise<Side> {
  const masters = await startBenchMasters(1);
  const [master] = masters.nodes;
  await foundCluster({ nodes: addresses(masters.nodes), cluster: clusterName, log: 'kafka' });
  const client = await connect(master!, { application: 'bench' });
  for (const { table, shape } of Object.values(shapes))
    await makeCollection(masters.nodes, table, noIndex, shape.dimension);
  let process: ReplicatorProcess | null = null;
  const stop = async () => {
    await process?.[Symbol.asyncDispose]();
    process = null;
  };
  return {
    masters,
    client,
    topic: () => topicName(clusterName, master!.name),
    stop,
    resume: async () => {
      process = await ReplicatorProcess.start({
        pair: { masters },
        serves: [master!.name],
        kafkaBrokers: broker.brokers,
        // The topic counts rows: as few heartbeats between them as can be.
        settings: { PGQUORUM_KAFKA_PARTITIONS: '1', PGQUORUM_HEARTBEAT_INTERVAL_MS: '60000' },
      });
    },
    cpuMs: () => (process === null ? 0 : processCpuMs(process.pid)),
    memory: () => process!.memory().highest,
    [Symbol.asyncDispose]: async () => {
      await stop();
      await closeClient(client);
      await masters[Symbol.asyncDispose]();
    },
  };
}

interface Backlog {
  readonly table: string;
  readonly shape: RowShape;
  readonly rows: number;
  readonly prefix: string;
}

async function write(side: Side, { table, shape, rows, prefix }: Backlog): Promise<void> {
  const source = await RowSource.of(side.client, shape);
  for (const batch of source.batches(prefix, rows, transactionRows))
    await upsertMany(side.client, table, batch);
}

async function drain(side: Side, broker: KafkaBroker, backlog: Backlog): Promise<Drained> {
  const { table, rows } = backlog;
  const [master] = side.masters.nodes;
  await using clock = await TopicClock.open(broker.brokers, side.topic(table));
  await side.stop();
  await write(side, backlog);
  await settle(side.masters.nodes);
  const before = await clock.count();
  const beganMs = Date.now();
  const cpu = { process: side.cpuMs(), server: serverCpuMs(master!) };
  await side.resume();
  await clock.reaches(before + rows, withinMs);
  const perRow = (ms: number) => (ms * 1000) / rows;
  const cpuUs = perRow(side.cpuMs() - cpu.process);
  const serverUs = perRow(serverCpuMs(master!) - cpu.server);
  const tenth = Math.ceil(rows / 10);
  const countsFromMs = await clock.timeOf(before + tenth, beganMs);
  const endMs = await clock.timeOf(before + rows, beganMs);
  return { rowsPerSecond: rate(rows - tenth, endMs - countsFromMs), cpuUs, serverUs, memory: side.memory() };
}

interface Sides {
  readonly broker: KafkaBroker;
  readonly theirs: Side;
  readonly ours: Side;
}
const sidesOf = (round: number) =>
  round % 2 === 0 ? (['theirs', 'ours'] as const) : (['ours', 'theirs'] as const);

const warm = new Set<string>();

async function warmUp({ broker, theirs }: Sides, { table, shape }: Omit<Backlog, 'rows' | 'prefix'>) {
  if (warm.has(table)) return;
  warm.add(table);
  await using clock = await TopicClock.open(broker.brokers, theirs.topic(table));
  await write(theirs, { table, shape, rows: warmUpRows, prefix: 'warm' });
  await clock.reaches(warmUpRows, withinMs);
}

async function runDrain(sides: Sides, name: keyof typeof shapes): Promise<void> {
  const { table, shape, rows, goal } = shapes[name];
  title(
    `${name === '768' ? 'rows of 768 dimensions' : 'rows of 200 bytes'}: a backlog of ${whole(rows)} in transactions of ${transactionRows}`,
  );
  await warmUp(sides, { table, shape });
  const found: Record<'theirs' | 'ours', Drained[]> = { theirs: [], ours: [] };
  for (let round = 0; round < rounds; round += 1) {
    for (const side of sidesOf(round)) {
      const prefix = `drain${round}`;
      const one = await drain(sides[side], sides.broker, { table, shape, rows, prefix });
      say(
        `  round ${round + 1}, ${side === 'ours' ? 'pgquorum' : 'Debezium'}: ${whole(one.rowsPerSecond)} rows/s; us of processor a row: ${whole(one.serverUs)} at the origin, ${whole(one.cpuUs)} in the process, which took ${whole(one.memory)} MiB`,
      );
      found[side].push(one);
    }
  }
  await sides.ours.stop();
  const of = (side: 'theirs' | 'ours') => median(found[side].map((one) => one.rowsPerSecond));
  const ratio = median(
    found.ours.map((one, round) => one.rowsPerSecond / found.theirs[round]!.rowsPerSecond),
  );
  const memory = Math.max(...found.ours.map((one) => one.memory));
  show({ name: 'Debezium', value: `${whole(of('theirs'))} rows/s` });
  show({
    name: 'pgquorum',
    value: `${whole(of('ours'))} rows/s`,
    ratio,
    against: 'Debezium',
    goal: { text: `at least ${goal} of Debezium`, met: ratio >= goal },
  });
  show({
    name: 'resident memory of the replicator',
    value: `${whole(memory)} MiB`,
    goal: { text: `under ${memoryMax} MB`, met: memory * 1.048576 < memoryMax },
  });
}

interface Latencies {
  readonly p50: number;
  readonly p99: number;
}

async function measureLatency(side: Side, broker: KafkaBroker, prefix: string): Promise<Latencies> {
  const { table } = shapes['768'];
  const count = latencyWarmUp + latencySeconds * writesPerSecond;
  await using clock = await TopicClock.open(broker.brokers, side.topic(table));
  const clients = await Promise.all(
    Array.from({ length: writers }, () => connect(side.masters.nodes[0]!, { application: 'bench writer' })),
  );
  try {
    const source = await RowSource.of(side.client);
    const stopped = await clock.count();
    await side.resume();
    await write(side, { table, shape: wideRows, rows: transactionRows, prefix: `${prefix}first` });
    await clock.reaches(stopped + transactionRows, withinMs); // it runs
    const before = await clock.count();
    const { writes } = await writeOnSchedule(clients, source, { table, prefix, count, writesPerSecond });
    const epochMs = Date.now() - performance.now();
    await clock.reaches(before + count, withinMs);
    const committed = new Map(
      writes.slice(latencyWarmUp).map(({ id, committedAt }) => [id, epochMs + committedAt!]),
    );
    const found: number[] = [];
    // Somewhere in the millisecond that the broker names: its middle.
    await clock.read(before, (await clock.count()) - before, (key, ms) => {
      const id = /[^"\0]*-\d{8}/.exec(key)?.[0];
      const at = id === undefined ? undefined : committed.get(id);
      if (at !== undefined) found.push(ms + 0.5 - at);
    });
    if (found.length !== committed.size)
      throw new Error(`${found.length} of ${committed.size} rows were found in ${side.topic(table)}`);
    return { p50: quantile(found, 0.5), p99: quantile(found, 0.99) };
  } finally {
    await Promise.all(clients.map((client) => client.end()));
  }
}

async function runLatency(sides: Sides): Promise<void> {
  title(`commit to Kafka, ${writesPerSecond} single writes/s of 768 dimensions for ${latencySeconds} s`);
  await sides.theirs.resume();
  await warmUp(sides, shapes['768']);
  const found: Record<'theirs' | 'ours', Latencies[]> = { theirs: [], ours: [] };
  for (let round = 0; round < rounds; round += 1) {
    for (const side of sidesOf(round)) {
      const one = await measureLatency(sides[side], sides.broker, `timed${round}`);
      await sides[side].stop();
      say(
        `  round ${round + 1}, ${side === 'ours' ? 'pgquorum' : 'Debezium'}: p50 ${one.p50.toFixed(1)} ms, p99 ${one.p99.toFixed(1)} ms`,
      );
      found[side].push(one);
    }
  }
  const of = (side: 'theirs' | 'ours', what: 'p50' | 'p99') => median(found[side].map((one) => one[what]));
  const value = (side: 'theirs' | 'ours') =>
    `p50 ${of(side, 'p50').toFixed(1)}, p99 ${of(side, 'p99').toFixed(1)} ms`;
  show({ name: 'Debezium', value: value('theirs') });
  show({
    name: 'pgquorum',
    value: value('ours'),
    ratio: of('ours', 'p50') / of('theirs', 'p50'),
    against: "Debezium's p50",
    goal: {
      text: 'p50 and p99 no later than Debezium',
      met: of('ours', 'p50') <= of('theirs', 'p50') && of('ours', 'p99') <= of('theirs', 'p99'),
    },
  });
}

const variants = chosen(['768', '200', 'latency'] as const);
say(`${connectorName}, ${javaName}`);
await using broker = await startKafka();
await using theirs = await startTheirs(broker);
await using ours = await startOurs(broker);
for (const variant of variants) {
  if (variant === 'latency') await runLatency({ broker, theirs, ours });
  else await runDrain({ broker, theirs, ours }, variant);
}
finish();
