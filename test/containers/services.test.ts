/** What the services around pgquorum must be for it, in the images that this machine has: official ones or those made from packages. */
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { setTimeout as delay } from 'node:timers/promises';
import { ComposeCluster, containersSkipped } from './compose-cluster.ts';

const skipped = await containersSkipped();
if (skipped !== undefined) process.stderr.write(`skipped: containers of the masters (${skipped})\n`);

(skipped === undefined ? describe : describe.skip)('masters in containers', () => {
  let cluster: ComposeCluster;

  beforeAll(async () => {
    cluster = await ComposeCluster.start(['n1', 'n2', 'kafka']);
  }, 600_000);
  afterAll(() => cluster?.[Symbol.asyncDispose](), 60_000);

  test('have a role that owns its database, may replicate and is no superuser', async () => {
    const facts = await cluster.sql(
      'n1',
      `
      select rolsuper, rolreplication, rolcreaterole, rolcreatedb, current_setting('wal_level') as "walLevel",
             (select pg_get_userbyid(datdba) from pg_database where datname = current_database()) as owner
        from pg_roles where rolname = current_user`,
    );
    expect(facts).toEqual([
      {
        rolsuper: false,
        rolreplication: true,
        rolcreaterole: false,
        rolcreatedb: false,
        walLevel: 'logical',
        owner: 'pgquorum',
      },
    ]);
  });

  test('have pgvector, and let the role make a publication and a slot', async () => {
    await cluster.execute('n1', 'create table probe (id int primary key, embedding vector(3))');
    await cluster.execute('n1', 'create index on probe using hnsw (embedding vector_l2_ops)');
    await cluster.execute('n1', 'create publication probe for table probe');
    expect(
      await cluster.sql(
        'n1',
        `select slot_name from pg_create_logical_replication_slot('probe', 'pgoutput')`,
      ),
    ).toEqual([{ slot_name: 'probe' }]);
    await cluster.execute('n1', `select pg_drop_replication_slot('probe')`);
  });

  test('keep what was committed when they are stopped and started', async () => {
    await cluster.execute('n2', 'create table kept as select 1 as one');
    expect(await cluster.stop('n2')).toBe(0);
    await cluster.startAgain('n2');
    await expectSoon(() => cluster.sql('n2', 'select one from kept'), [{ one: 1 }]);
  }, 60_000);

  test('are out of reach while they are cut off, and within it afterwards', async () => {
    const reaches = () => cluster.reaches('n1', 'n2');
    expect(await reaches()).toBe(true);
    await cluster.cut('n2');
    expect(await reaches()).toBe(false);
    expect(await cluster.sql('n2', 'select 1 as alive')).toEqual([{ alive: 1 }]);
    await cluster.rejoin('n2');
    await expectSoon(reaches, true);
  }, 60_000);
});

async function expectSoon(ask: () => Promise<unknown>, wanted: unknown): Promise<void> {
  const deadline = Date.now() + 30_000;
  for (;;) {
    try {
      expect(await ask()).toEqual(wanted);
      return;
    } catch (cause) {
      if (Date.now() > deadline) throw cause;
      await delay(200);
    }
  }
}
