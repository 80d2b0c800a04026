/**
 * Single upserts through the gateway at ONE, QUORUM and ALL, by one client and by sixteen, against the same statement sent to a master by the driver. Three masters and their replicators, which
 * carry what ONE has left; all of it on this machine, so QUORUM and ALL share the processor with everything else.
 *
 *     node dist/bench/gateway-levels.bench.js
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type pg from 'pg';
import { connect } from '#core/postgres/connect.pg.ts';
import { foundCluster } from '#core/topology/found.pg.ts';
import { finish, median, quantile, rate, rounds, say, show, size, title, whole } from './setup/figures.ts';
import { GatewayProcess } from './setup/gateway.ts';
import { addresses, clusterName, startBenchMasters } from './setup/masters.ts';
import { ReplicatorProcess } from './setup/replicator.ts';

const seconds = size('SECONDS', 4);
const manyClients = 16;
const pauseMs = 3000;
const dimension = 3;
const ways = ['direct', 'one', 'quorum', 'all'] as const;
type Way = (typeof ways)[number];

interface Measured {
  readonly rate: number;
  readonly p50: number;
  readonly p99: number;
}

const embedding = (): number[] => Array.from({ length: dimension }, () => Math.random() - 0.5);

async function load(
  clients: number,
  write: (client: number, id: string) => Promise<void>,
): Promise<Measured> {
  const took: number[] = [];
  const began = performance.now();
  const end = began + seconds * 1000;
  await Promise.all(
    Array.from({ length: clients }, async (_, client) => {
      for (let count = 0; performance.now() < end; count += 1) {
        const sent = performance.now();
        await write(client, `${client}-${count % 100}`);
        took.push(performance.now() - sent);
      }
    }),
  );
  return {
    rate: rate(took.length, performance.now() - began),
    p50: quantile(took, 0.5),
    p99: quantile(took, 0.99),
  };
}

const text = `insert into public.docs (id, embedding, metadata) values ($1, $2, '{}') on conflict (id) do update set embedding = excluded.embedding, metadata = excluded.metadata`;

function writerOf(way: Way, gateway: GatewayProcess, direct: readonly pg.Client[]) {
  // Rows of its own for each way: none waits for locks of what replication still carries of another.
  return async (client: number, name: string): Promise<void> => {
    const id = `${way}-${name}`;
    if (way === 'direct') {
      await direct[client]!.query({ name: 'upsert', text, values: [id, `[${embedding().join(',')}]`] });
      return;
    }
    const body = JSON.stringify({ vectors: [{ id, embedding: embedding() }] });
    const status = await gateway.send('POST', `/v1/collections/docs/vectors?consistency=${way}`, body);
    if (status !== 200) throw new Error(`the gateway answered ${status}`);
  };
}

title(`single upserts, ${dimension} dimensions, ${seconds} s each`);
await using masters = await startBenchMasters(3);
await foundCluster({ nodes: addresses(masters.nodes), cluster: clusterName, log: 'wal' });
await using replicator = await ReplicatorProcess.start({
  pair: { masters },
  serves: masters.nodes.map(({ name }) => name),
});
await using gateway = await GatewayProcess.start(masters);
const made = await gateway.send(
  'PUT',
  '/v1/collections/docs',
  JSON.stringify({ dimension, index: { type: 'none' } }),
);
if (made !== 201) throw new Error(`the collection was not made: ${made}`);
const direct = await Promise.all(
  Array.from({ length: manyClients }, (_, at) =>
    connect(masters.nodes[at % 3]!, { application: 'bench writer' }),
  ),
);
void replicator;
const found = new Map<string, Measured[]>();
for (let round = 0; round <= rounds; round += 1)
  for (const clients of [1, manyClients])
    for (const way of ways) {
      // What was left to replicate is not for the next one to pay for.
      await sleep(pauseMs);
      const one = await load(clients, writerOf(way, gateway, direct));
      // The first round warms everything up.
      if (round === 0) continue;
      say(
        `  round ${round}, ${clients} clients, ${way}: ${whole(one.rate)}/s, p50 ${one.p50.toFixed(1)} ms, p99 ${one.p99.toFixed(1)} ms`,
      );
      found.set(`${way} ${clients}`, [...(found.get(`${way} ${clients}`) ?? []), one]);
    }
await Promise.all(direct.map((client) => client.end()));

const of = (way: Way, clients: number, what: keyof Measured): number =>
  median(found.get(`${way} ${clients}`)!.map((one) => one[what]));
for (const way of ways.slice(1)) {
  const ratio = of(way, 1, 'p50') / of('direct', 1, 'p50');
  show({
    name: `one client at ${way}`,
    value: `p50 ${of(way, 1, 'p50').toFixed(1)}, p99 ${of(way, 1, 'p99').toFixed(1)} ms`,
    ratio,
    against: 'the statement itself',
    ...(way === 'one' ? { goal: { text: 'at most 1.5', met: ratio <= 1.5 } } : {}),
  });
}
for (const way of ways.slice(1)) {
  const base: Way = way === 'one' ? 'direct' : 'one';
  const ratio = of(way, manyClients, 'rate') / of(base, manyClients, 'rate');
  show({
    name: `${manyClients} clients at ${way}`,
    value: `${whole(of(way, manyClients, 'rate'))}/s`,
    ratio,
    against: base === 'direct' ? 'the statement itself' : 'ONE',
    ...(way === 'quorum' ? { goal: { text: 'at least 0.5', met: ratio >= 0.5 } } : {}),
  });
}
finish();
