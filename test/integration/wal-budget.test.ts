/** What becomes of WAL that is kept for a peer whose replicator is gone: kept, or let go with a resync when it is back. */
import { expect, test } from '@jest/globals';
import { listeningLogger } from '#core/testing/cluster.pg.ts';
import { eventually } from '#core/testing/wait.process.ts';
import { startReplicator } from '../../apps/replicator/src/app.module.ts';
import { freshGateway, settingsFor } from './gateway-fixture.ts';

const budget = 2_000_000;

test('beyond the budget WAL of a dead peer is a problem, and with the policy is let go; the peer resyncs, and nothing is lost', async () => {
  const env = { PGQUORUM_WAL_BUDGET_BYTES: String(budget), PGQUORUM_HEARTBEAT_INTERVAL_MS: '200' };
  await using gateway = await freshGateway({ count: 2, env });
  await gateway.send('PUT', '/v1/collections/docs', { body: { dimension: 1 } });
  const [{ cluster }] = (await gateway.sql<{ cluster: string }>(0, 'select cluster from pgquorum.node')) as [
    { cluster: string },
  ];
  const start = async (node: string, policy: string) => {
    const { logger, lines } = listeningLogger();
    const settings = settingsFor(gateway.nodes, cluster, {
      ...env,
      PGQUORUM_WAL_BUDGET_POLICY: policy,
      PGQUORUM_REPLICATOR_NODES: node,
    });
    const app = await startReplicator(settings, logger);
    return { lines, [Symbol.asyncDispose]: () => app.close() };
  };
  const slots = () =>
    gateway.sql<{ slot_name: string; active: boolean }>(
      0,
      `select slot_name, active from pg_replication_slots where slot_name like 'pgquorum_%\\_1\\_2' and database = current_database()`,
    );
  const write = (rows: string) =>
    gateway.sql(
      0,
      `insert into docs (id, metadata) select i::text, jsonb_build_object('text', (select string_agg(md5(i::text || n), '') from generate_series(1, 60) n)) from generate_series(${rows}) i`,
    );
  const health = async (): Promise<string[]> =>
    ((await gateway.send('GET', '/v1/cluster/health')).body as { problems: string[] }).problems;
  const replica = async () =>
    ((await gateway.send('GET', '/v1/replication/replicas')).body as { items: { status: string }[] })
      .items[1];
  {
    await using both = await start('n1,n2', 'release');
    await write('1, 5');
    await eventually('it is replicated', async () => (await gateway.sql(1, 'select from docs')).length === 5);
    // A peer that reads is never let go of, whatever it is behind by.
    await write('6, 2000');
    await eventually(
      'it is replicated',
      async () => (await gateway.sql(1, 'select from docs')).length === 2000,
      {
        withinMs: 40_000,
      },
    );
    expect(both.lines.filter((line) => line.msg.includes('let go'))).toEqual([]);
    expect(await slots()).toMatchObject([{ active: true }]);
  }
  {
    await using _one = await start('n1', 'keep');
    await write('2001, 4000');
    await eventually('it is a problem', async () =>
      (await health()).some((problem) =>
        /^node n1 keeps \d+ bytes of WAL for slot .*_1_2, more than/.test(problem),
      ),
    );
    expect(await slots()).toMatchObject([{ active: false }]);
  }
  await using one = await start('n1', 'release');
  await eventually('the slot is let go', async () => (await slots()).length === 0);
  await eventually('it is logged', () => one.lines.some((line) => line.msg.includes('let go')));
  await eventually('the replica is to be resynced', async () => (await replica())?.status === 'resync');
  const told = await gateway.sql<{ body: Record<string, unknown> }>(
    0,
    `select body from pgquorum.event where type = 'resync' and body ->> 'happened' = 'released'`,
  );
  expect(told.map(({ body }) => body)).toEqual([
    {
      happened: 'released',
      from: 1,
      to: 2,
      slot: expect.any(String),
      bytes: expect.any(Number),
      budgetBytes: budget,
    },
  ]);
  expect(told[0]!.body['bytes']).toBeGreaterThan(budget);
  await gateway.sql(0, `delete from docs where id = '1'`);
  await using _two = await start('n2', 'release');
  await eventually(
    'all of it is there',
    async () => (await gateway.sql(1, 'select from docs')).length === 3999,
    {
      withinMs: 60_000,
    },
  );
  await eventually('the replica is active again', async () => (await replica())?.status === 'active', {
    withinMs: 60_000,
  });
  const rows = (node: number) =>
    gateway.sql(node, `select md5(string_agg(d::text, ',' order by id)) from docs d`);
  expect(await rows(1)).toEqual(await rows(0));
}, 180_000);
