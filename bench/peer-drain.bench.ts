/**
 * How fast a peer catches up: 50,000 rows of 768 dimensions, written in transactions of 100 while nothing replicates, then drained through pgquorum
 * and through native logical replication (binary), in turns, between the same two masters. `hnsw`: fewer rows, with an HNSW index on the peer.
 *
 *     node dist/bench/peer-drain.bench.js [wal] [kafka] [hnsw] [hnsw-kafka]
 */
import type { CollectionDefinition } from '#core/collections/definition.ts';
import { startKafka } from '#core/testing/broker.kafka.ts';
import { kafkaAvailable } from '#core/testing/kafka-jars.os.ts';
import type { LogKind } from '#core/topology/names.ts';
import { chosen, finish, full, median, rounds, say, show, size, title, whole } from './setup/figures.ts';
import { drain, makeLink, type Drained, type LinkKind } from './setup/link.ts';
import { hnsw, noIndex, settle, startPair, type Pair } from './setup/masters.ts';
import { RowSource, upsertMany } from './setup/rows.ts';

interface Variant {
  readonly log: LogKind;
  readonly index: CollectionDefinition['index'];
  readonly rows: number;
  readonly goal: number;
}

const drainRows = size('ROWS', 50_000);
const hnswRows = size('ROWS_HNSW', full ? 10_000 : 3_000);
const memoryMax = 512;
const variants = {
  wal: { log: 'wal', index: noIndex, rows: drainRows, goal: 0.6 },
  kafka: { log: 'kafka', index: noIndex, rows: drainRows, goal: 0.25 },
  hnsw: { log: 'wal', index: hnsw, rows: hnswRows, goal: 2 },
  'hnsw-kafka': { log: 'kafka', index: hnsw, rows: hnswRows, goal: 2 },
} as const satisfies Record<string, Variant>;

const transactionRows = 100;

async function measure(
  pair: Pair,
  options: { variant: Variant; kind: LinkKind; table: string; kafkaBrokers: readonly string[] | undefined },
): Promise<Drained> {
  const { variant, kind, table, kafkaBrokers } = options;
  await using link = await makeLink({ kind, pair, table, index: variant.index, kafkaBrokers });
  const source = await RowSource.of(pair.atOrigin);
  for (const batch of source.batches(table, variant.rows, transactionRows))
    await upsertMany(pair.atOrigin, table, batch);
  await settle(pair.masters.nodes);
  return await drain(link, pair, variant.rows); // before the link is disposed of
}

const us = ({ cpuUs }: Drained): string =>
  `${whole(cpuUs.origin)} at the origin, ${whole(cpuUs.replicators)} between, ${whole(cpuUs.peer)} at the peer`;

async function run(name: string, variant: Variant): Promise<void> {
  title(
    `${name}: ${whole(variant.rows)} rows in transactions of ${transactionRows}, ${variant.index.type === 'hnsw' ? 'HNSW index' : 'no ANN index'} on the peer`,
  );
  await using broker = variant.log === 'kafka' ? await startKafka() : undefined;
  await using pair = await startPair(variant.log);
  const found: Record<'native' | 'ours', Drained[]> = { native: [], ours: [] };
  for (let round = 0; round < rounds; round += 1) {
    // In turns, each first in every other round: what the machine does meanwhile meets both.
    const order = round % 2 === 0 ? (['native', 'ours'] as const) : (['ours', 'native'] as const);
    for (const side of order) {
      const kind = side === 'native' ? 'native' : variant.log;
      const drained = await measure(pair, {
        variant,
        kind,
        table: `drain_${side}_${round}`,
        kafkaBrokers: side === 'ours' ? broker?.brokers : undefined,
      });
      say(
        `  round ${round + 1}, ${kind}: ${whole(drained.rowsPerSecond)} rows/s, first row after ${whole(drained.startMs)} ms; us of processor a row: ${us(drained)}${drained.memory.length === 0 ? '' : `; resident ${drained.memory.map(whole).join(' and ')} MiB`}`,
      );
      found[side].push(drained);
    }
  }
  const native = median(found.native.map((one) => one.rowsPerSecond));
  const ours = median(found.ours.map((one) => one.rowsPerSecond));
  const ratio = median(
    found.ours.map((one, round) => one.rowsPerSecond / found.native[round]!.rowsPerSecond),
  );
  show({ name: 'native logical replication, binary', value: `${whole(native)} rows/s` });
  show({
    name: `pgquorum through ${variant.log}`,
    value: `${whole(ours)} rows/s`,
    ratio,
    against: 'native',
    goal: { text: `at least ${variant.goal} of native`, met: ratio >= variant.goal },
  });
  const memory = Math.max(...found.ours.flatMap((one) => one.memory));
  show({
    name: 'highest resident memory of a replicator',
    value: `${whole(memory)} MiB`,
    goal: { text: `under ${memoryMax} MB`, met: memory * 1.048576 < memoryMax },
  });
}

const all = Object.keys(variants) as (keyof typeof variants)[];
const kafka = await kafkaAvailable();
for (const name of chosen(all)) {
  if (variants[name].log === 'kafka' && kafka.kind === 'unavailable')
    say(`\n${name} is left out: ${kafka.reason}`);
  else await run(name, variants[name]);
}
finish();
