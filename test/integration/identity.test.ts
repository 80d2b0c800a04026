/**
 * A master that went back to an earlier state: put back from a copy of its stopped data folder, restored from a base backup, promoted from a physical standby.
 * It draws counters again that others hold writes under, so it goes on under another number, gets back from the others what it has lost, and
 * nothing that was written meanwhile is lost: not on the others, and not on the master itself before anybody noticed.
 */
import { expect, test } from '@jest/globals';
import { rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { createCollection } from '#core/collections/catalog.pg.ts';
import { testDefinition } from '#core/testing/cluster.pg.ts';
import { withMasters, type Masters, type TestMaster } from '#core/testing/masters.pg.ts';
import { eventually } from '#core/testing/wait.process.ts';
import { foundCluster } from '#core/topology/found.pg.ts';
import type { NodeNumber } from '#core/versioning/version.ts';
import { AppProcess } from './convergence/processes.ts';
import { confirming } from './identity/confirming.ts';
import {
  audit,
  baseBackup,
  copyFolder,
  goBack,
  identityOf,
  promote,
  query,
  Writer,
  type Scene,
} from './identity/scene.ts';

const collection = 'docs';
const cluster = `identity-${Math.random().toString(36).slice(2, 8)}`;

/** A copy of a master that runs beside it under its name, as after a slip with an address. */
async function cloneBeside(scene: Scene, masters: Masters): Promise<void> {
  const [first] = scene.masters as [TestMaster];
  const before = await identityOf(first);
  await withMasters({ count: 1 }, async (others) => {
    const [clone] = others.nodes as [TestMaster];
    await clone.stop('immediate');
    await baseBackup(first, join(masters.folder, 'clone'), []);
    rmSync(clone.dataDir, { recursive: true, force: true });
    await copyFolder(join(masters.folder, 'clone'), clone.dataDir);
    await clone.start();
    const node = (master: TestMaster, number: number) => ({
      name: master.name,
      number: number as NodeNumber,
      spare: null,
      address: { name: master.name, url: master.url, zone: 'z', weight: 1 },
    });
    await using _ = confirming(
      node(clone, before.number),
      scene.masters.slice(1).map((master, at) => node(master, at + 100)),
    );
    await eventually('the clone is left out', async () =>
      (await identityOf(clone)).problem?.startsWith('another database has told others'),
    );
    expect(await identityOf(clone)).toMatchObject({ number: before.number, confirmed: false });
    expect(await identityOf(first)).toMatchObject({ number: before.number, confirmed: true, problem: null });
  });
}

test('a master that was put back, restored or promoted takes another number, and nothing is lost or back', async () => {
  await withMasters({ count: 3 }, async (masters) => {
    const nodes = masters.nodes.map(({ name, url, zone }) => ({ name, url, zone, weight: 1 }));
    await foundCluster({ nodes, cluster, log: 'wal' });
    await createCollection({ nodes, name: collection, definition: { ...testDefinition, shards: 4 } });
    const replicators = nodes.map(
      ({ name }) =>
        new AppProcess(
          'replicator',
          {
            PGQUORUM_NODES: JSON.stringify(nodes),
            PGQUORUM_CLUSTER: cluster,
            PGQUORUM_REPLICATOR_NODES: name,
            PGQUORUM_FAILURE_TIMEOUT_MS: '1500',
            PGQUORUM_HEARTBEAT_INTERVAL_MS: '300',
          },
          join(masters.folder, `replicator-${name}.log`),
        ),
    );
    const scene: Scene = {
      masters: masters.nodes,
      writers: masters.nodes.map((master) => new Writer(master)),
    };
    const [first, second, third] = masters.nodes as [TestMaster, TestMaster, TestMaster];
    const backup = (name: string): string => join(masters.folder, `backup-${name}`);
    try {
      for (const app of replicators) app.start();
      await eventually('all write', () => scene.writers.every(({ kept }) => kept.length > 10));

      // A copy of the stopped folder: nothing in it says that time has passed.
      await first.stop();
      await copyFolder(first.dataDir, backup('first'));
      await first.start();
      const written = scene.writers[0]!.kept.length;
      await eventually('the first is written on', () => scene.writers[0]!.kept.length > written + 10);
      await goBack(scene, 0, async () => copyFolder(backup('first'), first.dataDir));

      // A base backup of the running master, started plainly: it has no slots. In the long form alone: the others take its steps too.
      if (process.env['PGQUORUM_TEST_LONG'] === '1') {
        await baseBackup(second, backup('second'), []);
        const later = scene.writers[1]!.kept.length;
        await eventually('the second is written on', () => scene.writers[1]!.kept.length > later + 10);
        await goBack(scene, 1, async () => copyFolder(backup('second'), second.dataDir));
      }

      // A standby that was behind and is promoted.
      await baseBackup(third, backup('third'), []);
      const last = scene.writers[2]!.kept.length;
      await eventually('the third is written on', () => scene.writers[2]!.kept.length > last + 10);
      const promoting = goBack(scene, 2, async () => {
        await copyFolder(backup('third'), third.dataDir);
        writeFileSync(join(third.dataDir, 'standby.signal'), '');
      });
      await eventually(
        'the standby is up',
        async () => {
          const [row] = await query<{ standby: boolean }>(third, 'select pg_is_in_recovery() as standby');
          return row!.standby;
        },
        { withinMs: 60_000 },
      );
      await promote(third);
      await promoting;

      await cloneBeside(scene, masters);
    } finally {
      await Promise.all(scene.writers.map((writer) => writer.stop()));
    }
    try {
      await audit(scene);
      for (const replicator of replicators) expect(await replicator.kill('SIGTERM')).toBe(0);
    } finally {
      await Promise.all(replicators.map((app) => app.kill('SIGKILL')));
    }
  });
}, 400_000);
