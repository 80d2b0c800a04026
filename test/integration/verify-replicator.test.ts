/** Replicators verify by themselves and run verifications that are asked for, through either change log. */
import { randomUUID } from 'node:crypto';
import { join } from 'node:path';
import pg from 'pg';
import { describe, expect, test } from '@jest/globals';
import { createCollection } from '#core/collections/catalog.pg.ts';
import { readJob, startJob } from '#core/jobs/store.pg.ts';
import { sharedKafka } from '#core/testing/broker.kafka.ts';
import { changeLogs, type LogName } from '#core/testing/change-logs.os.ts';
import { testDefinition } from '#core/testing/cluster.pg.ts';
import { withMasters, type Masters } from '#core/testing/masters.pg.ts';
import { eventually } from '#core/testing/wait.process.ts';
import { foundCluster } from '#core/topology/found.pg.ts';
import { AppProcess } from './convergence/processes.ts';

const logs = await changeLogs(['wal']);

describe.each(logs)('through %s', (log) => {
  test('what a master lost comes back by itself, tombstones go, and a job finds nothing left', async () => {
    await withMasters({ count: 3 }, (masters) => run(masters, log));
  }, 240_000);
});

async function run(masters: Masters, log: LogName): Promise<void> {
  const cluster = `verify-${randomUUID().slice(0, 8)}`;
  const nodes = masters.nodes.map(({ name, url, zone }) => ({ name, url, zone, weight: 1 }));
  const brokers = log === 'kafka' ? (await sharedKafka()).brokers : null;
  await foundCluster({ nodes, cluster, log });
  await createCollection({ nodes, name: 'docs', definition: testDefinition });
  const replicator = new AppProcess(
    'replicator',
    {
      PGQUORUM_NODES: JSON.stringify(nodes),
      PGQUORUM_CLUSTER: cluster,
      PGQUORUM_VERIFY_INTERVAL_MS: '500',
      PGQUORUM_TOMBSTONE_GRACE_MS: '0',
      ...(brokers === null ? {} : { PGQUORUM_KAFKA_BROKERS: brokers.join(',') }),
    },
    join(masters.folder, 'replicator.log'),
  );
  const clients: pg.Client[] = [];
  for (const { url } of nodes) {
    const client = new pg.Client({ connectionString: url });
    await client.connect();
    clients.push(client);
  }
  const everywhere = (text: string, expected: number) =>
    eventually(
      `${text} is ${expected} everywhere`,
      async () => {
        const found = await Promise.all(clients.map((client) => client.query<{ n: number }>(text)));
        return found.every(({ rows }) => rows[0]!.n === expected);
      },
      { withinMs: 90_000, everyMs: 200 },
    );
  const [first, , third] = clients;
  try {
    replicator.start();
    await first!.query(`insert into docs select 'k' || i, '[1,2,3]' from generate_series(1, 40) i`);
    await everywhere('select count(*)::int as n from docs', 40);
    await third!.query(`delete from docs where id <= 'k2'`);
    await everywhere('select count(*)::int as n from pgquorum.version_docs where deleted', 0);
    const [left] = (await first!.query<{ n: number }>('select count(*)::int as n from docs')).rows;
    expect(left!.n).toBeLessThan(40);
    await third!.query(
      `begin; set local pgquorum.apply = 'on'; delete from docs; delete from pgquorum.version_docs; commit`,
    );
    await everywhere('select count(*)::int as n from docs', left!.n);
    const { id } = await startJob(first!, { kind: 'verify', arguments: { deep: true } });
    const job = await eventually(
      'the job is done',
      async () => {
        const found = (await readJob(first!, id))!;
        return found.state === 'done' ? found : null;
      },
      { withinMs: 90_000 },
    );
    expect(job.result).toMatchObject({ shards: 8, keys: left!.n, differences: 0, inFlight: 0, behind: [] });
  } finally {
    await Promise.all(clients.map((client) => client.end().catch(() => undefined))); // a master may have failed the test
    await replicator.kill('SIGKILL');
  }
}
