/** A cluster with a writer on each master, whose masters go back to earlier states: for tests of what is made of that. */
import { expect } from '@jest/globals';
import { rmSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';
import { giveTo, serverAccount } from '#core/embedded/account.os.ts';
import { run } from '#core/embedded/process.os.ts';
import type { TestMaster } from '#core/testing/masters.pg.ts';
import { testInstallation } from '#core/testing/template.pg.ts';
import { eventually } from '#core/testing/wait.process.ts';
import { convergedMasters } from '../convergence/compare.ts';
import { withClient } from '../convergence/states.ts';

const collection = 'docs';

export const query = async <T extends object>(
  master: TestMaster,
  sql: string,
  values: unknown[] = [],
): Promise<T[]> => withClient(master, async (client) => (await client.query<T>(sql, values)).rows);

/** Writes to one master all the time: keys of its own that stay, keys that it deletes again, and keys that all masters write. */
export class Writer {
  readonly kept: string[];
  readonly deleted: string[];
  readonly #master: TestMaster;
  #next: number;
  #stopped = false;
  #paused = false;
  #idle = false;
  readonly #done: Promise<void>;

  /** `former` has ended; what it wrote counts, and keys go on behind its own. */
  constructor(master: TestMaster, former?: Writer) {
    this.#master = master;
    this.kept = [...(former?.kept ?? [])];
    this.deleted = [...(former?.deleted ?? [])];
    this.#next = former === undefined ? 0 : former.#next;
    this.#done = this.#run();
  }

  async #run(): Promise<void> {
    let client: pg.Client | null = null;
    for (; !this.#stopped; this.#next += 1) {
      this.#idle = this.#paused;
      if (this.#paused) {
        await sleep(5);
        continue;
      }
      try {
        client ??= await this.#connect();
        await this.#write(client, this.#next);
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

export interface Scene {
  readonly masters: readonly TestMaster[];
  readonly writers: readonly Writer[];
}

export interface Identity {
  readonly number: number;
  readonly spare: number | null;
  readonly confirmed: boolean;
  readonly problem: string | null;
}

export const identityOf = async (master: TestMaster): Promise<Identity> =>
  (
    await query<Identity>(
      master,
      'select number, spare, coalesce(started = pg_postmaster_start_time(), false) as confirmed, identity_problem as problem from pgquorum.node',
    )
  )[0]!;

export const copyFolder = async (from: string, to: string): Promise<void> => {
  rmSync(to, { recursive: true, force: true });
  const answer = await run('cp', ['-a', from, to]);
  expect(answer.code).toBe(0);
};

/** Waits until all that the writer of a master was told is committed is on the others, so that losing the master loses nothing. All of it: lanes are not equally fast. */
export async function drained({ masters, writers }: Scene, at: number): Promise<void> {
  await writers[at]!.pause();
  const { kept } = writers[at]!;
  for (const master of masters)
    await eventually(
      `all writes of master ${at + 1} are on ${master.name}`,
      async () => {
        const [row] = await query<{ count: number }>(
          master,
          'select count(*)::int as count from docs where id = any($1)',
          [kept],
        );
        return row!.count === kept.length;
      },
      { withinMs: 120_000 },
    );
}

export async function settled({ masters }: Scene): Promise<void> {
  for (const master of masters)
    await eventually(
      `${master.name} is confirmed, and all its edges are ready`,
      async () =>
        (await identityOf(master)).confirmed &&
        (await query(master, `select from pgquorum.source where state <> 'ready'`)).length === 0,
      { withinMs: 180_000 },
    );
}

/** Takes a master back; users write to it as soon as it is up. */
export async function goBack(scene: Scene, at: number, replace: () => Promise<void>): Promise<void> {
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
    { withinMs: 120_000 },
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
export async function baseBackup(master: TestMaster, to: string, flags: readonly string[]): Promise<void> {
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

export async function promote(master: TestMaster): Promise<void> {
  await withClient({ ...master, url: master.superUrl } as TestMaster, async (client) => {
    await client.query('select pg_promote()');
  });
}

export async function audit(scene: Scene): Promise<void> {
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
