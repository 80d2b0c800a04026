/**
 * Whether a long backlog takes more memory than a short one: the highest resident memory of fresh replicators while they drain rows of 768 dimensions, first
 * few, then ten times as many.
 *
 *     node dist/bench/backlog-memory.bench.js [wal] [kafka]
 */
import { startKafka } from '#core/testing/broker.kafka.ts';
import { kafkaAvailable } from '#core/testing/kafka-jars.os.ts';
import { chosen, finish, full, say, show, size, title, whole } from './setup/figures.ts';
import { drain, makeLink } from './setup/link.ts';
import { noIndex, settle, startPair, type Pair } from './setup/masters.ts';
import { RowSource, upsertMany } from './setup/rows.ts';

const short = size('ROWS', full ? 50_000 : 15_000);
const times = 10;
const memoryMax = 512;
/** What two drains of the same backlog may differ by: when collections happen to run decides. */
const toleranceMiB = 64;

/** MiB of each replicator at its highest: with Kafka that which feeds the topic, then that which applies. */
async function highest(
  pair: Pair,
  options: { log: 'wal' | 'kafka'; table: string; rows: number; kafkaBrokers: readonly string[] | undefined },
): Promise<number[]> {
  const { log, table, rows, kafkaBrokers } = options;
  await using link = await makeLink({ kind: log, pair, table, index: noIndex, kafkaBrokers });
  const source = await RowSource.of(pair.atOrigin);
  for (const batch of source.batches(table, rows, 100)) await upsertMany(pair.atOrigin, table, batch);
  await settle(pair.masters.nodes);
  await drain(link, pair, rows);
  const found = link.processes.map((process) => process.memory().highest);
  say(`  ${whole(rows)} rows: ${found.map((mib) => `${whole(mib)} MiB`).join(' and ')}`);
  return found;
}

async function run(log: 'wal' | 'kafka'): Promise<void> {
  title(`${log}: a backlog of ${whole(short)} rows, then of ${whole(short * times)}`);
  await using broker = log === 'kafka' ? await startKafka() : undefined;
  await using pair = await startPair(log);
  const about = { log, kafkaBrokers: broker?.brokers };
  const few = await highest(pair, { ...about, table: 'few', rows: short });
  const many = await highest(pair, { ...about, table: 'many', rows: short * times });
  const most = Math.max(...many);
  const grown = Math.max(...many.map((mib, at) => mib - few[at]!));
  show({
    name: 'highest resident memory of a replicator',
    value: `${whole(most)} MiB`,
    goal: { text: `under ${memoryMax} MB`, met: most * 1.048576 < memoryMax },
  });
  show({
    name: `with ${times} times the backlog`,
    value: `${grown < 0 ? '' : '+'}${whole(grown)} MiB`,
    goal: { text: `the same but for ${toleranceMiB} MiB`, met: grown <= toleranceMiB },
  });
}

const kafka = await kafkaAvailable();
for (const log of chosen(['wal', 'kafka'])) {
  if (log === 'kafka' && kafka.kind === 'unavailable') say(`\nkafka is left out: ${kafka.reason}`);
  else await run(log);
}
finish();
