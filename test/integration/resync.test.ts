/**
 * What an edge has missed comes over by itself: slots dropped, made anew and invalidated, a publication remade or short of a table, while users write on all
 * masters and replicators are killed in the middle of the copying. At the end all masters hold the same, every acknowledged write is accounted for, and no
 * deleted row is back.
 */
import { expect, test } from '@jest/globals';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { createCollection } from '#core/collections/catalog.pg.ts';
import { withMasters, type Masters, type TestMaster } from '#core/testing/masters.pg.ts';
import { eventually } from '#core/testing/wait.process.ts';
import { foundCluster } from '#core/topology/found.pg.ts';
import { edgeSlot } from '#core/topology/names.ts';
import type { NodeNumber } from '#core/versioning/version.ts';
import { Prng } from '../simulation/prng.ts';
import { convergedMasters } from './convergence/compare.ts';
import { Ledger } from './convergence/ledger.ts';
import { AppProcess } from './convergence/processes.ts';
import { readFinal, withClient } from './convergence/states.ts';
import { RandomWriter } from './convergence/writer.ts';

const collection = 'docs';
const cluster = `resync-${Math.random().toString(36).slice(2, 8)}`;

interface Scene {
  readonly masters: readonly TestMaster[];
  readonly replicators: AppProcess[];
  /** A replicator of a master that copies so many keys a second. */
  replicator(at: number, keysPerSecond: number): AppProcess;
  readonly numbers: ReadonlyMap<string, number>;
}

const query = async <T extends object>(
  master: TestMaster,
  sql: string,
  values: unknown[] = [],
): Promise<T[]> => withClient(master, async (client) => (await client.query<T>(sql, values)).rows);

const numberOf = ({ numbers, masters }: Scene, at: number): NodeNumber =>
  numbers.get(masters[at]!.name) as NodeNumber;

/** Ends whoever reads the slot and drops it before it is read again. */
async function dropSlot(scene: Scene, origin: number, target: number): Promise<void> {
  const slot = edgeSlot(cluster, numberOf(scene, origin), numberOf(scene, target));
  await eventually(`slot ${slot} is dropped`, async () => {
    await query(
      scene.masters[origin]!,
      'select pg_terminate_backend(active_pid, 1000) from pg_replication_slots where slot_name = $1 and active',
      [slot],
    );
    await query(
      scene.masters[origin]!,
      'select pg_drop_replication_slot(slot_name) from pg_replication_slots where slot_name = $1',
      [slot],
    );
    return true;
  });
}

const resyncs = async (scene: Scene, target: number, happened: string): Promise<number> =>
  (
    await query<{ count: number }>(
      scene.masters[target]!,
      `select count(*)::int as count from pgquorum.event where type = 'resync' and body ->> 'happened' = $1`,
      [happened],
    )
  )[0]!.count;

/** So slow that the copying is seen, on the busiest machine, before it is over; and what others copy with. */
const slow = 12;
const quick = 500;

/** Kills the slow replicator of a master once one of its edges copies; a quick one goes on. */
async function killWhileCopying(scene: Scene, target: number): Promise<void> {
  await eventually(
    'the copying is under way',
    async () =>
      (
        await query(
          scene.masters[target]!,
          `select from pgquorum.resync r join pgquorum.source s using (origin, log) where s.state = 'resync' and r.phase = 'copying' and r.copied > 0`,
        )
      ).length > 0,
    { everyMs: 2, withinMs: 180_000 },
  );
  await scene.replicators[target]!.kill('SIGKILL');
  scene.replicators[target] = scene.replicator(target, quick);
  scene.replicators[target].start();
}

async function mended(scene: Scene): Promise<void> {
  for (const [at, master] of scene.masters.entries())
    await eventually(
      `all edges into master ${at + 1} are ready`,
      async () => (await query(master, `select from pgquorum.source where state <> 'ready'`)).length === 0,
      { withinMs: 60_000 },
    );
}

async function loseAndRemake(scene: Scene): Promise<void> {
  const [first, second, third] = scene.masters as [TestMaster, TestMaster, TestMaster];
  // Dropped while the reader is connected; the reader dies in the middle of the copying.
  await dropSlot(scene, 0, 1);
  await killWhileCopying(scene, 1);
  await mended(scene);
  expect(await resyncs(scene, 1, 'finished')).toBe(1);

  // Made anew by someone: the same name and nothing of what it had.
  const slot = edgeSlot(cluster, numberOf(scene, 2), numberOf(scene, 0));
  await dropSlot(scene, 2, 0);
  await query(third, `select pg_create_logical_replication_slot($1, 'pgoutput')`, [slot]).catch(
    (cause: Error) =>
      // The replicator may have been faster.
      expect(cause.message).toContain('already exists'),
  );
  await eventually('the loss is noticed', async () => (await resyncs(scene, 0, 'started')) > 0);
  await mended(scene);

  // All edges from the second master lose the publication, and one table for a moment.
  await query(second, 'drop publication pgquorum');
  await query(second, `create publication pgquorum for table pgquorum.heartbeat with (publish = 'insert')`);
  await eventually('both readers notice', async () => (await resyncs(scene, 2, 'started')) > 0);
  await mended(scene);
  await query(first, `alter publication pgquorum drop table pgquorum.version_${collection}`);
  await eventually('a missing table is noticed', async () => (await resyncs(scene, 1, 'started')) > 1);
  await mended(scene);
}

async function invalidate(scene: Scene): Promise<void> {
  const [first] = scene.masters as [TestMaster];
  await scene.replicators[2]!.kill('SIGKILL');
  await withClient({ ...first, url: first.superUrl } as TestMaster, async (client) => {
    await client.query(`alter system set max_slot_wal_keep_size = '1MB'`);
    await client.query('select pg_reload_conf()');
    const slot = edgeSlot(cluster, numberOf(scene, 0), numberOf(scene, 2));
    await eventually('the server gives the slot up', async () => {
      await client.query(`select pg_logical_emit_message(true, 'test', 'x'), pg_switch_wal()`);
      await client.query('checkpoint');
      const { rows } = await client.query(
        `select from pg_replication_slots where slot_name = $1 and wal_status = 'lost'`,
        [slot],
      );
      return rows.length > 0;
    });
    await client.query('alter system reset max_slot_wal_keep_size');
    await client.query('select pg_reload_conf()');
  });
  scene.replicators[2] = scene.replicator(2, slow);
  scene.replicators[2].start();
  await eventually('the loss is noticed', async () => (await resyncs(scene, 2, 'started')) > 1);
  await killWhileCopying(scene, 2);
  await mended(scene);
}

test('lost, remade and invalidated slots and publications are mended while all masters write and replicators are killed', async () => {
  await withMasters({ count: 3 }, async (masters: Masters) => {
    const nodes = masters.nodes.map(({ name, url, zone }) => ({ name, url, zone, weight: 1 }));
    const found = await foundCluster({ nodes, cluster, log: 'wal' });
    const numbers = new Map(found.map((node) => [node.name, node.number as number]));
    await createCollection({
      nodes,
      name: collection,
      definition: {
        dimension: 8,
        metric: 'cosine',
        vectorType: 'vector',
        shards: 4,
        writes: 'any',
        conflicts: { strategy: 'lww' },
        index: { type: 'none' },
      },
    });
    const replicator = (at: number, keysPerSecond: number): AppProcess =>
      new AppProcess(
        'replicator',
        {
          PGQUORUM_NODES: JSON.stringify(nodes),
          PGQUORUM_CLUSTER: cluster,
          PGQUORUM_REPLICATOR_NODES: nodes[at]!.name,
          PGQUORUM_RESYNC_KEYS_PER_S: String(keysPerSecond),
        },
        join(masters.folder, `replicator-${nodes[at]!.name}.log`),
      );
    const replicators = nodes.map((_node, at) => replicator(at, at === 1 ? slow : quick));
    const ledger = new Ledger();
    const prng = new Prng(Math.floor(Math.random() * 2 ** 31));
    const writer = new RandomWriter({
      masters: masters.nodes,
      ledger,
      random: () => prng.next() / 2 ** 32,
      collection,
      keys: 100,
      dimension: 8,
      gateway: null,
      numbers,
    });
    let writing = true;
    try {
      for (const app of replicators) app.start();
      const work = async (): Promise<void> => {
        while (writing) {
          await writer.one();
          await sleep(15);
        }
      };
      const writes = Promise.all([work(), work()]);
      const scene: Scene = { masters: masters.nodes, replicators, replicator, numbers };
      try {
        await loseAndRemake(scene);
        await invalidate(scene);
      } finally {
        writing = false;
        await writes;
      }
      await convergedMasters(masters.nodes, collection);
      for (const master of masters.nodes)
        expect(ledger.audit(await readFinal(master, collection)).slice(0, 10)).toEqual([]);
      expect(writer.counts.acknowledged).toBeGreaterThan(200);
      for (const app of replicators) expect(await app.kill('SIGTERM')).toBe(0);
    } finally {
      await writer.close();
      await Promise.all(replicators.map((app) => app.kill('SIGKILL')));
    }
  });
}, 400_000);
