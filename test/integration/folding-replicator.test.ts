/** Replicators fold what requests count, through either change log, and go on folding once a master that was away is back. */
import { randomUUID } from 'node:crypto';
import { join } from 'node:path';
import pg from 'pg';
import { describe, expect, test } from '@jest/globals';
import { createCollection } from '#core/collections/catalog.pg.ts';
import { sharedKafka } from '#core/testing/broker.kafka.ts';
import { changeLogs, type LogName } from '#core/testing/change-logs.os.ts';
import { testDefinition } from '#core/testing/cluster.pg.ts';
import { withMasters, type Masters } from '#core/testing/masters.pg.ts';
import { eventually } from '#core/testing/wait.process.ts';
import { foundCluster } from '#core/topology/found.pg.ts';
import { AppProcess } from './convergence/processes.ts';

const logs = await changeLogs(['kafka']);
const keys = 30;
const places = [0, 1, 2];

describe.each(logs)('through %s', (log) => {
  test('increments on all masters end in cells, and their requests are refused for good', async () => {
    await withMasters({ count: 3 }, (masters) => run(masters, log));
  }, 240_000);
});

async function run(masters: Masters, log: LogName): Promise<void> {
  const cluster = `fold-${randomUUID().slice(0, 8)}`;
  const nodes = masters.nodes.map(({ name, url, zone }) => ({ name, url, zone, weight: 1 }));
  const brokers = log === 'kafka' ? (await sharedKafka()).brokers : null;
  await foundCluster({ nodes, cluster, log });
  await createCollection({
    nodes,
    name: 'docs',
    definition: { ...testDefinition, conflicts: { strategy: 'crdt', crdt: { stock: 'pn-counter' } } },
  });
  const replicator = new AppProcess(
    'replicator',
    {
      PGQUORUM_NODES: JSON.stringify(nodes),
      PGQUORUM_CLUSTER: cluster,
      ...(brokers === null ? {} : { PGQUORUM_KAFKA_BROKERS: brokers.join(',') }),
    },
    join(masters.folder, 'replicator.log'),
  );
  const query = async <R extends pg.QueryResultRow>(place: number, text: string, values: unknown[] = []) => {
    const client = new pg.Client({ connectionString: nodes[place]!.url });
    await client.connect();
    try {
      return (await client.query<R>(text, values)).rows;
    } finally {
      await client.end();
    }
  };
  const everywhere = async (text: string, expected: unknown) =>
    eventually(
      `${text} is ${JSON.stringify(expected)} everywhere`,
      async () => {
        const found = await Promise.all(places.map((place) => query<{ n: number }>(place, text)));
        return found.every((rows) => rows[0]!.n === expected);
      },
      { withinMs: 60_000, everyMs: 200 },
    );
  /** One increment of each key under a request of its own; how many of them were repeats. */
  const increment = async (place: number, requests: readonly string[]) =>
    (
      await query<{ n: number }>(
        place,
        `select count(*) filter (where c.repeated)::int as n from unnest($1::uuid[]) with ordinality r(request, i),
           lateral pgquorum.crdt_change('docs', 'k' || r.i, '{"stock": {"increment": 1}}', r.request) c`,
        [requests],
      )
    )[0]!.n;
  const unfolded = `select ((select count(*) from pgquorum.version_docs v, jsonb_each(v.crdt) l, jsonb_each(l.value -> 'k')) + (select count(*) from pgquorum.unfolded))::int as n`;
  const sum = `select sum((pgquorum.crdt_get('docs', id) ->> 'stock')::int)::int as n from docs`;
  try {
    replicator.start();
    await query(0, `insert into docs select 'k' || i, '[1,2,3]' from generate_series(1, $1) i`, [keys]);
    await everywhere('select count(*)::int as n from docs', keys);
    const made = places.map(() => Array.from({ length: keys }, () => randomUUID()));
    // Each on the next master too, at the same time: whichever comes second finds it done, or does it as well.
    await Promise.all(
      places.flatMap((place) => [increment(place, made[place]!), increment((place + 1) % 3, made[place]!)]),
    );
    await everywhere(unfolded, 0);
    await everywhere(sum, 3 * keys);
    await masters.nodes[2]!.kill9();
    const meanwhile = Array.from({ length: keys }, () => randomUUID());
    await increment(0, meanwhile);
    await eventually('the second master has them', async () => (await query(1, sum))[0]!.n === 4 * keys);
    expect((await query(0, unfolded))[0]!.n).toBe(2 * keys);
    await masters.nodes[2]!.start();
    await everywhere(unfolded, 0);
    for (const requests of [...made, meanwhile])
      for (const place of places) expect(await increment(place, requests)).toBe(keys);
    await everywhere(sum, 4 * keys);
  } finally {
    await replicator.kill('SIGKILL');
  }
}
