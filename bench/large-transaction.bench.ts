/**
 * One transaction of very many rows of 768 dimensions: the resident memory of the replicator process while it replicates, sampled from
 * /proc/<pid>/status, and the rate from the commit on, against native logical replication of the same rows. 60,000 rows (180 MB), or
 * 300,000 (about 1 GB) with BENCH_FULL=1. With Kafka there are two processes: one feeds the topic, one applies.
 *
 *     node dist/bench/large-transaction.bench.js [wal] [kafka]
 */
import { setTimeout as delay } from 'node:timers/promises';
import { startKafka } from '#core/testing/broker.kafka.ts';
import { kafkaAvailable } from '#core/testing/kafka-jars.os.ts';
import { chosen, finish, full, median, rate, rounds, say, show, title, whole } from './setup/figures.ts';
import { countAtPeer, makeLink, type Link, type LinkKind } from './setup/link.ts';
import { noIndex, settle, startPair, type Pair } from './setup/masters.ts';
import { RowSource, upsertMany } from './setup/rows.ts';

const rows = full ? 300_000 : 60_000;
const times = full ? 1 : rounds;
const memoryMax = 400;
const sampleMs = 50;
const arriveMsMax = 1_800_000;

interface Measured {
  readonly rowsPerSecond: number;
  /** MiB before the transaction, and at its highest, of each process. */
  readonly idle: readonly number[];
  readonly highest: readonly number[];
}

/** The kernel keeps the highest value too, but that of the whole life; samples show whether it was this. */
async function sample(link: Link, highest: number[], signal: AbortSignal): Promise<void> {
  while (!signal.aborted) {
    for (const [at, process] of link.processes.entries())
      highest[at] = Math.max(highest[at] ?? 0, process.memory().now);
    await delay(sampleMs);
  }
}

async function measure(
  pair: Pair,
  options: { kind: LinkKind; table: string; kafkaBrokers: readonly string[] | undefined },
): Promise<Measured> {
  const { kind, table, kafkaBrokers } = options;
  await using link = await makeLink({ kind, pair, table, index: noIndex, kafkaBrokers });
  const source = await RowSource.of(pair.atOrigin);
  await link.start();
  await settle(pair.masters.nodes);
  const [first] = source.batches('first', 1, 1);
  await upsertMany(pair.atOrigin, table, first!);
  await arrived(pair, table, 1);
  const idle = link.processes.map((process) => process.memory().now);
  const highest = [...idle];
  const stop = new AbortController();
  const sampling = sample(link, highest, stop.signal);
  try {
    await pair.atOrigin.query('begin');
    for (const batch of source.batches('large', rows, 500)) await upsertMany(pair.atOrigin, table, batch);
    await pair.atOrigin.query('commit');
    const committed = performance.now();
    await arrived(pair, table, rows + 1);
    return { rowsPerSecond: rate(rows, performance.now() - committed), idle, highest };
  } finally {
    stop.abort();
    await sampling;
  }
}

async function arrived(pair: Pair, table: string, expected: number): Promise<void> {
  const deadline = performance.now() + arriveMsMax;
  for (;;) {
    const here = await countAtPeer(pair, table);
    if (here >= expected) return;
    if (performance.now() > deadline) throw new Error(`only ${here} of ${expected} rows arrived`);
    await delay(50);
  }
}

const mib = (values: readonly number[]): string => values.map((value) => `${whole(value)} MiB`).join(' and ');

async function run(log: 'wal' | 'kafka'): Promise<void> {
  title(`${log}: one transaction of ${whole(rows)} rows`);
  await using broker = log === 'kafka' ? await startKafka() : undefined;
  await using pair = await startPair(log);
  const native: number[] = [];
  const ours: Measured[] = [];
  for (let round = 0; round < times; round += 1) {
    const baseline = await measure(pair, {
      kind: 'native',
      table: `large_native_${round}`,
      kafkaBrokers: undefined,
    });
    say(`  round ${round + 1}, native: ${whole(baseline.rowsPerSecond)} rows/s`);
    native.push(baseline.rowsPerSecond);
    const one = await measure(pair, {
      kind: log,
      table: `large_ours_${round}`,
      kafkaBrokers: broker?.brokers,
    });
    say(
      `  round ${round + 1}, ${log}: ${whole(one.rowsPerSecond)} rows/s, resident ${mib(one.highest)} (idle ${mib(one.idle)})`,
    );
    ours.push(one);
  }
  const highest = Math.max(...ours.flatMap((one) => one.highest));
  show({ name: 'native logical replication, binary', value: `${whole(median(native))} rows/s` });
  show({
    name: `pgquorum through ${log}`,
    value: `${whole(median(ours.map((one) => one.rowsPerSecond)))} rows/s`,
    ratio: median(ours.map((one, round) => one.rowsPerSecond / native[round]!)),
    against: 'native',
  });
  show({
    name: 'highest resident memory of a replicator',
    value: `${whole(highest)} MiB`,
    goal: { text: `under ${memoryMax} MB`, met: highest * 1.048576 < memoryMax },
  });
}

const kafka = await kafkaAvailable();
for (const log of chosen(['wal', 'kafka'])) {
  if (log === 'kafka' && kafka.kind === 'unavailable') say(`\nkafka is left out: ${kafka.reason}`);
  else await run(log);
}
finish();
