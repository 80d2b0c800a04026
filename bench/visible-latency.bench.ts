/**
 * From the commit of a single row to its being visible on the peer, at 200 and at 1,000 writes a second.
 *
 * Writes leave on a fixed schedule, whatever becomes of those before them, so a stall is counted for every write that it delays. A connection
 * to the peer asks without pause which of the missing rows are there; a row counts as visible when that answer is here, so figures are
 * too long by up to one poll, whose time is reported. Native logical replication is measured in the same way in the same run.
 *
 *     node dist/bench/visible-latency.bench.js [wal] [kafka] [wal-1000] [kafka-1000]
 */
import type pg from 'pg';
import { connect } from '#core/postgres/connect.pg.ts';
import { startKafka } from '#core/testing/broker.kafka.ts';
import { kafkaAvailable } from '#core/testing/kafka-jars.os.ts';
import { chosen, finish, full, median, quantile, rounds, say, show, size, title } from './setup/figures.ts';
import { drain, makeLink, type LinkKind } from './setup/link.ts';
import { noIndex, settle, startPair, type Pair } from './setup/masters.ts';
import { RowSource, upsertMany } from './setup/rows.ts';
import { writeOnSchedule, type Write } from './setup/scheduled-writes.ts';

const seconds = size('SECONDS', full ? 60 : 10);
const warmUpSeconds = 2;
const variants = {
  wal: { log: 'wal', writesPerSecond: 200, goal: { what: 'p50', belowMs: 5 } },
  kafka: { log: 'kafka', writesPerSecond: 200, goal: null },
  'wal-1000': { log: 'wal', writesPerSecond: 1000, goal: { what: 'p99', belowMs: 100 } },
  'kafka-1000': { log: 'kafka', writesPerSecond: 1000, goal: null },
} as const;
type Variant = (typeof variants)[keyof typeof variants];
const writers = 8;

interface Latencies {
  readonly p50: number;
  readonly p99: number;
  /** Of the commit itself, as its client saw it. */
  readonly commitP50: number;
  readonly pollP50: number;
  readonly pollP99: number;
}

/** Asks for the missing rows until told that no more will come and all are there. */
class Poller {
  readonly #peer: pg.Client;
  readonly #table: string;
  readonly #missing = new Map<string, Write>();
  readonly polls: number[] = [];
  complete = false;

  constructor(peer: pg.Client, table: string) {
    this.#peer = peer;
    this.#table = table;
  }

  expect(write: Write): void {
    this.#missing.set(write.id, write);
  }

  async run(): Promise<void> {
    const text = `select id from public.${this.#table} where id = any($1)`;
    while (!this.complete || this.#missing.size > 0) {
      if (this.#missing.size === 0) {
        await new Promise((resolve) => setImmediate(resolve));
        continue;
      }
      const began = performance.now();
      const found = await this.#peer.query<{ id: string }>({
        name: `poll ${this.#table}`,
        text,
        values: [[...this.#missing.keys()]],
      });
      const now = performance.now();
      this.polls.push(now - began);
      for (const { id } of found.rows) {
        this.#missing.get(id)!.visibleAt = now;
        this.#missing.delete(id);
      }
    }
  }
}

async function measure(
  pair: Pair,
  options: { kind: LinkKind; table: string; kafkaBrokers: readonly string[] | undefined; rate: number },
): Promise<Latencies> {
  const { kind, table, kafkaBrokers, rate: writesPerSecond } = options;
  const warmUpWrites = warmUpSeconds * writesPerSecond;
  await using link = await makeLink({ kind, pair, table, index: noIndex, kafkaBrokers });
  const source = await RowSource.of(pair.atOrigin);
  for (const batch of source.batches('before', 2000, 100)) await upsertMany(pair.atOrigin, table, batch);
  await settle(pair.masters.nodes);
  await drain(link, pair, 2000);
  const clients = await Promise.all(
    Array.from({ length: writers }, () => connect(pair.origin, { application: 'bench writer' })),
  );
  try {
    const poller = new Poller(pair.atPeer, table);
    const polling = poller.run();
    const { writes, commits } = await writeOnSchedule(clients, source, {
      table,
      prefix: 'timed',
      count: warmUpWrites + seconds * writesPerSecond,
      writesPerSecond,
      onSent: (one) => poller.expect(one),
    });
    poller.complete = true;
    await polling;
    const latencies = writes.slice(warmUpWrites).map((write) => write.visibleAt! - write.committedAt!);
    const timed = commits.slice(warmUpWrites);
    return {
      p50: quantile(latencies, 0.5),
      p99: quantile(latencies, 0.99),
      commitP50: quantile(timed, 0.5),
      pollP50: quantile(poller.polls, 0.5),
      pollP99: quantile(poller.polls, 0.99),
    };
  } finally {
    await Promise.all(clients.map((client) => client.end()));
  }
}

const ms = (value: number): string => value.toFixed(1);

async function run({ log, writesPerSecond, goal }: Variant): Promise<void> {
  title(`${log}: commit to visible on the peer, ${writesPerSecond} single writes/s for ${seconds} s`);
  await using broker = log === 'kafka' ? await startKafka() : undefined;
  await using pair = await startPair(log);
  const found: Record<'native' | 'ours', Latencies[]> = { native: [], ours: [] };
  for (let round = 0; round < rounds; round += 1) {
    for (const side of ['native', 'ours'] as const) {
      const kind = side === 'native' ? 'native' : log;
      const one = await measure(pair, {
        kind,
        table: `seen_${side}_${round}`,
        kafkaBrokers: side === 'ours' ? broker?.brokers : undefined,
        rate: writesPerSecond,
      });
      say(
        `  round ${round + 1}, ${kind}: p50 ${ms(one.p50)} ms, p99 ${ms(one.p99)} ms (the commit itself ${ms(one.commitP50)} ms, a poll ${one.pollP50.toFixed(2)} ms, p99 ${ms(one.pollP99)} ms)`,
      );
      found[side].push(one);
    }
  }
  const of = (side: 'native' | 'ours', what: 'p50' | 'p99') => median(found[side].map((one) => one[what]));
  const value = (side: 'native' | 'ours') => `p50 ${ms(of(side, 'p50'))}, p99 ${ms(of(side, 'p99'))} ms`;
  show({ name: 'native logical replication, binary', value: value('native') });
  show({
    name: `pgquorum through ${log}`,
    value: value('ours'),
    ratio: of('ours', 'p50') / of('native', 'p50'),
    against: "native's p50",
    ...(goal === null
      ? {}
      : {
          goal: { text: `${goal.what} under ${goal.belowMs} ms`, met: of('ours', goal.what) < goal.belowMs },
        }),
  });
}

const kafka = await kafkaAvailable();
for (const name of chosen(Object.keys(variants) as (keyof typeof variants)[])) {
  const variant = variants[name];
  if (variant.log === 'kafka' && kafka.kind === 'unavailable') say(`\n${name} is left out: ${kafka.reason}`);
  else await run(variant);
}
finish();
