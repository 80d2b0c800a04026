/** Bringing databases to the newest schema, and founding, by any number of starters at once. */
import { expect, test } from '@jest/globals';
import type pg from 'pg';
import { connect } from '#core/postgres/connect.pg.ts';
import { loadMigrations, migrate } from '#core/postgres/migrate.pg.ts';
import { readMigration, type Migration } from '#core/postgres/migrations.ts';
import { freshNodes, type FreshNodes } from '#core/testing/fresh-nodes.pg.ts';
import { foundCluster } from '#core/topology/found.pg.ts';

const addresses = (fresh: FreshNodes) =>
  fresh.nodes.map((node) => ({ name: node.name, url: node.url, zone: node.zone, weight: 1 }));

async function withClients<T>(
  url: string,
  count: number,
  work: (clients: pg.Client[]) => Promise<T>,
): Promise<T> {
  const clients = await Promise.all(
    Array.from({ length: count }, () => connect({ url }, { application: 'a starter' })),
  );
  try {
    return await work(clients);
  } finally {
    await Promise.all(clients.map((client) => client.end()));
  }
}

const one = <T>(url: string, work: (client: pg.Client) => Promise<T>): Promise<T> =>
  withClients(url, 1, ([client]) => work(client!));

const rows = async (client: pg.Client, text: string): Promise<Record<string, unknown>[]> =>
  (await client.query<Record<string, unknown>>(text)).rows;

const next = (known: readonly Migration[], sql: string): Migration[] => [
  ...known,
  readMigration(`${String(known.length + 1).padStart(6, '0')}_made_by_a_test.sql`, sql),
];

test.each([18, 16] as const)(
  'twenty starters at once leave one clean result on Postgres %i',
  async (major) => {
    await using fresh = await freshNodes({ count: 1, major });
    const known = await loadMigrations();
    await withClients(fresh.nodes[0]!.url, 20, async (clients) => {
      const ran = await Promise.all(clients.map((client) => migrate(client, known)));
      expect(ran.filter((numbers) => numbers.length > 0)).toEqual([
        known.map((migration) => migration.number),
      ]);
      expect(
        await rows(clients[0]!, 'select number, name, checksum from pgquorum.migration order by number'),
      ).toEqual(known.map(({ number, name, checksum }) => ({ number, name, checksum })));
      expect(await migrate(clients[0]!)).toEqual([]);
    });
  },
  120_000,
);

test('twenty foundings at once agree on numbers, slots and positions', async () => {
  await using fresh = await freshNodes({ count: 3 });
  const nodes = addresses(fresh);
  const found = await Promise.all(
    Array.from({ length: 20 }, () => foundCluster({ nodes, cluster: fresh.cluster, log: 'wal' })),
  );
  for (const cluster of found)
    expect(cluster.map(({ name, number, spare }) => ({ name, number, spare }))).toEqual(
      found[0]!.map(({ name, number, spare }) => ({ name, number, spare })),
    );
  expect(found[0]!.map((node) => node.number)).toEqual([1, 2, 3]);
  expect(new Set(found[0]!.flatMap((node) => [node.number, node.spare])).size).toBe(6);
  for (const [place, node] of fresh.nodes.entries()) {
    await one(node.url, async (client) => {
      expect(await rows(client, 'select number, name, cluster from pgquorum.node')).toEqual([
        { number: place + 1, name: node.name, cluster: fresh.cluster },
      ]);
      const others = [1, 2, 3].filter((number) => number !== place + 1);
      const slots = await rows(
        client,
        `select slot_name from pg_replication_slots where database = current_database() order by 1`,
      );
      expect(slots).toEqual(
        others.map((other) => ({ slot_name: `pgquorum_${fresh.cluster}_${place + 1}_${other}` })),
      );
      const sources = await rows(
        client,
        'select s.origin, s.state, s.slot, count(p.*)::int as lanes, min(p.position) > 0 as positioned from pgquorum.source s join pgquorum.progress p using (origin, log) group by 1, 2, 3 order by 1',
      );
      expect(sources).toEqual(
        others.map((other) => ({
          origin: other,
          state: 'ready',
          slot: `pgquorum_${fresh.cluster}_${other}_${place + 1}`,
          lanes: 1,
          positioned: true,
        })),
      );
      expect(await rows(client, 'select number from pgquorum.heartbeat')).toEqual([{ number: place + 1 }]);
    });
  }
}, 120_000);

test('a founding that was killed between slot and position is finished by the next one', async () => {
  await using fresh = await freshNodes({ count: 2 });
  const nodes = addresses(fresh);
  await foundCluster({ nodes, cluster: fresh.cluster, log: 'wal' });
  const [origin, target] = fresh.nodes;
  // As it is when the slot was made and the process died before it said so: whose slot it is can not be told.
  await one(target!.url, (client) => client.query(`update pgquorum.source set state = 'creating'`));
  const slotOf = (client: pg.Client) =>
    rows(
      client,
      `select confirmed_flush_lsn::text as lsn from pg_replication_slots where slot_name = 'pgquorum_${fresh.cluster}_1_2'`,
    );
  const [before] = await one(origin!.url, slotOf);
  await one(origin!.url, (client) => client.query('update pgquorum.heartbeat set at = clock_timestamp()'));
  await foundCluster({ nodes, cluster: fresh.cluster, log: 'wal' });
  const [after] = await one(origin!.url, slotOf);
  expect(after).not.toEqual(before);
  const sources = (client: pg.Client) =>
    rows(
      client,
      'select s.state, s.generation, p.position > 0 as positioned from pgquorum.source s join pgquorum.progress p using (origin, log)',
    );
  expect(await one(target!.url, sources)).toEqual([
    { state: 'ready', generation: after!['lsn'], positioned: true },
  ]);
}, 120_000);

test('a database of another cluster, name or change log is refused', async () => {
  await using fresh = await freshNodes({ count: 2 });
  const nodes = addresses(fresh);
  await foundCluster({ nodes, cluster: fresh.cluster, log: 'wal' });
  const refused = (options: Partial<Parameters<typeof foundCluster>[0]>) =>
    expect(foundCluster({ nodes, cluster: fresh.cluster, log: 'wal', ...options })).rejects.toMatchObject({
      code: 'node_misfit',
    });
  await refused({ cluster: 'another' });
  await refused({ log: 'kafka' });
  await refused({ nodes: [nodes[0]!, { ...nodes[1]!, name: 'renamed' }] });
}, 120_000);

test('older code refuses a newer schema, and leaves it alone', async () => {
  await using fresh = await freshNodes({ count: 1 });
  const known = await loadMigrations();
  await one(fresh.nodes[0]!.url, async (client) => {
    await migrate(client, next(known, 'create table pgquorum.newer (a integer);'));
    await expect(migrate(client, known)).rejects.toMatchObject({
      code: 'schema_newer',
      detail: expect.stringContaining(`knows ${known.length}`),
    });
    expect(await rows(client, 'select count(*)::int as count from pgquorum.migration')).toEqual([
      { count: known.length + 1 },
    ]);
  });
  await expect(
    foundCluster({ nodes: addresses(fresh), cluster: fresh.cluster, log: 'wal' }),
  ).rejects.toMatchObject({ code: 'schema_newer' });
}, 120_000);

test('a migration that was edited after it ran is refused', async () => {
  await using fresh = await freshNodes({ count: 1 });
  const known = await loadMigrations();
  await one(fresh.nodes[0]!.url, async (client) => {
    await migrate(client, known);
    const edited = known.map((migration, at) =>
      at === 0 ? readMigration('000001_foundation.sql', `${migration.sql}\n-- a later thought`) : migration,
    );
    await expect(migrate(client, edited)).rejects.toMatchObject({
      code: 'migration_failed',
      detail: expect.stringContaining('migration 1 was applied with another text'),
    });
    expect(await migrate(client, known)).toEqual([]);
  });
}, 120_000);

test('a migration that fails leaves nothing, and can be run once it is mended', async () => {
  await using fresh = await freshNodes({ count: 1 });
  const known = await loadMigrations();
  const objects = (client: pg.Client) =>
    rows(
      client,
      `select c.relname from pg_class c join pg_namespace n on n.oid = c.relnamespace where n.nspname = 'pgquorum' order by 1`,
    );
  await one(fresh.nodes[0]!.url, async (client) => {
    // On an empty database, together with all before it.
    await expect(
      migrate(client, next(known, 'create table pgquorum.half (a integer); select 1 / 0;')),
    ).rejects.toMatchObject({
      code: 'migration_failed',
      detail: expect.stringMatching(/^migration \d+ \(made_by_a_test\): division by zero/),
    });
    expect(await objects(client)).toEqual([]);
    await migrate(client, known);
    const before = await objects(client);
    await expect(
      migrate(
        client,
        next(known, 'create table pgquorum.half (a integer); create table pgquorum.half (a integer);'),
      ),
    ).rejects.toMatchObject({ code: 'migration_failed' });
    expect(await objects(client)).toEqual(before);
    expect(await migrate(client, next(known, 'create table pgquorum.half (a integer);'))).toEqual([
      known.length + 1,
    ]);
  });
}, 120_000);
