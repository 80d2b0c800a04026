/** Somebody keeps a whole table locked (a rewrite, a truncate behind a long transaction): what else there is to do goes on. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from '@jest/globals';
import { foundTestCluster } from '#core/testing/cluster.pg.ts';
import { eventually } from '#core/testing/wait.process.ts';
import { AppProcess } from './convergence/processes.ts';

test('changes of other collections are applied, and those of the locked one when it is free, though nothing of the table was read before', async () => {
  await using cluster = await foundTestCluster({ count: 2, collections: ['docs', 'others'] });
  const user = await cluster.client(1);
  await user.query('begin; lock table docs in access exclusive mode');
  await cluster.query(0, `insert into docs values ('k', '[1,2,3]')`);
  await cluster.query(0, `insert into others values ('k', '[1,2,3]')`);
  const edge = cluster.edge(0, 1);
  await eventually('the other collection goes on', async () =>
    (await cluster.query(1, 'select from others')).length === 1 ? true : null,
  );
  await user.query('commit');
  await eventually('the locked one follows', async () =>
    (await cluster.query(1, 'select from docs')).length === 1 ? true : null,
  );
  expect(edge.failures).toEqual([]);
}, 120_000);

test('a replicator that looks at the table can be stopped', async () => {
  await using cluster = await foundTestCluster({ count: 2, collections: ['docs'] });
  const folder = mkdtempSync(join(tmpdir(), 'pgquorum-locked-'));
  const nodes = cluster.nodes.map(({ address }) => address);
  const replicator = new AppProcess(
    'replicator',
    {
      PGQUORUM_NODES: JSON.stringify(nodes),
      PGQUORUM_CLUSTER: cluster.cluster,
      PGQUORUM_VERIFY_INTERVAL_MS: '200',
    },
    join(folder, 'log'),
  );
  try {
    const user = await cluster.client(1);
    await user.query('begin; lock table docs in access exclusive mode');
    replicator.start();
    await eventually(
      'verification waits for the table',
      async () =>
        (
          await cluster.query(
            1,
            `select from pg_stat_activity where application_name = 'pgquorum verify' and wait_event_type = 'Lock' and datname = current_database()`,
          )
        ).length > 0
          ? true
          : null,
      { withinMs: 60_000 },
    );
    expect(await replicator.kill('SIGTERM')).toBe(0);
    await user.query('rollback');
  } finally {
    await replicator.kill('SIGKILL');
    rmSync(folder, { recursive: true, force: true });
  }
}, 120_000);
