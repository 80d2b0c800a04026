/**
 * A master that went back to an earlier state: put back from a copy of its stopped data folder, restored from a base backup, promoted from a physical standby.
 * It draws counters again that others hold writes under, so it goes on under another number, gets back from the others what it has lost, and
 * nothing that was written meanwhile is lost: not on the others, and not on the master itself before anybody noticed.
 */
import { expect, test } from '@jest/globals';
import { rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';
import { createCollection } from '#core/collections/catalog.pg.ts';
import { giveTo, serverAccount } from '#core/embedded/account.os.ts';
import { run } from '#core/embedded/process.os.ts';
import { createLogger } from '#core/observability/logger.process.ts';
import { withMasters, type Masters, type TestMaster } from '#core/testing/masters.pg.ts';
import { testInstallation } from '#core/testing/template.pg.ts';
import { eventually } from '#core/testing/wait.process.ts';
import { foundCluster } from '#core/topology/found.pg.ts';
import { watchIdentity } from '#core/topology/identity.pg.ts';
import type { NodeNumber } from '#core/versioning/version.ts';
import { convergedMasters } from './convergence/compare.ts';
import { AppProcess } from './convergence/processes.ts';
import { withClient } from './convergence/states.ts';

const collection = 'docs';
const cluster = `identity-${Math.random().toString(36).slice(2, 8)}`;

const query = async <T extends object>(
  master: TestMaster,
  sql: string,
  values: unknown[] = [],
): Promise<T[]> => withClient(master, async (client) => (await client.query<T>(sql, values)).rows);

/** Writes to one master all the time: keys of its own that stay, keys that it deletes again, and keys that all masters write. */
class Writer {
  readonly kept: string[] = [];
  readonly deleted: string[] = [];
  readonly #master: TestMaster;
  #stopped = false;
  #paused = false;
  #idle = false;
  readonly #done: Promise<void>;

  constructor(master: TestMaster) {
    this.#master = master;
    this.#done = this.#run();
  }

  async #run(): Promise<void> {
    let client: pg.Client | null = null;
    for (let n = 0; !this.#stopped; n += 1) {
      this.#idle = this.#paused;
      if (this.#paused) {
        await sleep(5);
        continue;
      }
      try {
        client ??= await this.#connect();
        await this.#write(client, n);
      } catch {
        // The master is down, or the connection was lost: what was not acknowledged is not asked for later.
        await client?.end().catch(() => undefined);
        client = null;
        await sleep(20);
      }
    }
    await client?.end().catch(() => undefined); // it may be lost already
  }

  async #connect(): Promise<pg.Client> {
    const client = new pg.Client({ connectionString: this.#master.url, connectionTimeoutMillis: 2000 });
    client.on('error', () => undefined); // the write that notices it rejects
    await client.connect();
    return client;
  }

  async #write(client: pg.Client, n: number): Promise<void> {
    const key = `${this.#master.name}-${n}`;
    const upsert = `insert into docs (id, embedding, metadata) values ($1, '[1,2,3]', $2) on conflict (id) do update set metadata = excluded.metadata`;
    await client.query(upsert, [key, { by: this.#master.name, n }]);
    if (n % 3 === 0) {
      await client.query('delete from docs where id = $1', [key]);
      this.deleted.push(key);
    } else this.kept.push(key);
    await client.query(upsert, [`hot${n % 5}`, { by: this.#master.name, n }]);
    await sleep(40);
  }

  /** Resolves when nothing is under way. */
  async pause(): Promise<void> {
    this.#paused = true;
    await eventually('the writer pauses', () => this.#idle);
  }

  resume(): void {
    this.#paused = false;
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    await this.#done;
  }
}

interface Scene {
  readonly masters: readonly TestMaster[];
  readonly writers: readonly Writer[];
}

interface Identity {
  readonly number: number;
  readonly spare: number | null;
  readonly confirmed: boolean;
  readonly problem: string | null;
}

const identityOf = async (master: TestMaster): Promise<Identity> =>
  (
    await query<Identity>(
      master,
      'select number, spare, coalesce(started = pg_postmaster_start_time(), false) as confirmed, identity_problem as problem from pgquorum.node',
    )
  )[0]!;

const copyFolder = async (from: string, to: string): Promise<void> => {
  rmSync(to, { recursive: true, force: true });
  const answer = await run('cp', ['-a', from, to]);
  expect(answer.code).toBe(0);
};

/** Waits until all that the writer of a master was told is committed is on the others, so that losing the master loses nothing. */
async function drained({ masters, writers }: Scene, at: number): Promise<void> {
  await writers[at]!.pause();
  const last = writers[at]!.kept.at(-1)!;
  for (const master of masters)
    await eventually(
      `the last write of master ${at + 1} is on ${master.name}`,
      async () => (await query(master, 'select from docs where id = $1', [last])).length > 0,
      { withinMs: 60_000 },
    );
}

async function settled({ masters }: Scene): Promise<void> {
  for (const master of masters)
    await eventually(
      `${master.name} is confirmed, and all its edges are ready`,
      async () =>
        (await identityOf(master)).confirmed &&
        (await query(master, `select from pgquorum.source where state <> 'ready'`)).length === 0,
      { withinMs: 90_000 },
    );
}

/** Takes a master back; users write to it as soon as it is up. */
async function goBack(scene: Scene, at: number, replace: () => Promise<void>): Promise<void> {
  const master = scene.masters[at]!;
  const before = await identityOf(master);
  await drained(scene, at);
  await master.kill9();
  await replace();
  scene.writers[at]!.resume();
  await master.start();
  await eventually(
    `${master.name} goes on under its spare number`,
    async () => (await identityOf(master)).number === before.spare,
    { withinMs: 60_000 },
  );
  await settled(scene);
  for (const other of scene.masters) {
    const [row] = await query<{ retired: boolean }>(
      other,
      'select retired from pgquorum.member where number = $1',
      [before.number],
    );
    expect(row).toEqual({ retired: true });
  }
}

/** A copy of a running master. */
async function baseBackup(master: TestMaster, to: string, flags: readonly string[]): Promise<void> {
  rmSync(to, { recursive: true, force: true });
  const installation = await testInstallation(18);
  const { file, args } = installation.command('pg_basebackup', [
    '-D',
    to,
    '-d',
    master.superUrl,
    '-c',
    'fast',
    ...flags,
  ]);
  const answer = await run(file, args);
  expect([answer.code, answer.stderr]).toEqual([0, '']);
  if (serverAccount() !== undefined) {
    const owned = await run('chown', ['-R', '--reference', master.dataDir, to]);
    expect(owned.code).toBe(0);
    giveTo(to, serverAccount());
  }
}

async function promote(master: TestMaster): Promise<void> {
  await withClient({ ...master, url: master.superUrl } as TestMaster, async (client) => {
    await client.query('select pg_promote()');
  });
}

async function audit(scene: Scene): Promise<void> {
  await convergedMasters(scene.masters, collection);
  for (const master of scene.masters) {
    const present = new Set(
      (await query<{ id: string }>(master, 'select id from docs')).map((row) => row.id),
    );
    const lost = scene.writers.flatMap(({ kept }) => kept.filter((key) => !present.has(key)));
    const back = scene.writers.flatMap(({ deleted }) => deleted.filter((key) => present.has(key)));
    expect({ lost: lost.slice(0, 5), back: back.slice(0, 5) }).toEqual({ lost: [], back: [] });
  }
}

/** A copy of a master that runs beside it under its name, as after a slip with an address. */
async function cloneBeside(scene: Scene, masters: Masters): Promise<void> {
  const [first] = scene.masters as [TestMaster];
  const before = await identityOf(first);
  const abort = new AbortController();
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
    const watching = watchIdentity(
      {
        node: node(clone, before.number),
        peers: scene.masters.slice(1).map((master, at) => node(master, at + 100)),
        intervalMs: 100,
        aliveMs: 60_000,
        logger: createLogger({ app: 'test', level: 'silent' }),
        onRenumbered: () => undefined,
      },
      abort.signal,
    );
    await eventually('the clone is left out', async () =>
      (await identityOf(clone)).problem?.startsWith('another database has told n'),
    );
    expect(await identityOf(clone)).toMatchObject({ number: before.number, confirmed: false });
    expect(await identityOf(first)).toMatchObject({ number: before.number, confirmed: true, problem: null });
    abort.abort();
    await watching;
  });
}

test('a master that was put back, restored or promoted takes another number, and nothing is lost or back', async () => {
  await withMasters({ count: 3 }, async (masters) => {
    const nodes = masters.nodes.map(({ name, url, zone }) => ({ name, url, zone, weight: 1 }));
    await foundCluster({ nodes, cluster, log: 'wal' });
    await createCollection({
      nodes,
      name: collection,
      definition: {
        dimension: 3,
        metric: 'cosine',
        vectorType: 'vector',
        shards: 4,
        writes: 'any',
        conflicts: { strategy: 'lww' },
        index: { type: 'none' },
      },
    });
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
