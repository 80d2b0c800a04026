/** The fixtures that every other integration test stands on. */
import { spawn } from 'node:child_process';
import { existsSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { expect, test } from '@jest/globals';
import { withClient } from '#core/embedded/database.pg.ts';
import { identify, isRunning } from '#core/embedded/process.os.ts';
import { freshNodes } from '#core/testing/fresh-nodes.pg.ts';
import { startMasters, withMasters } from '#core/testing/masters.pg.ts';

interface Facts {
  major: number;
  role: string;
  super: boolean;
  vector: string;
  identity: string;
}

const facts = (url: string) =>
  withClient(url, async (client) => {
    const { rows } = await client.query<Facts>(
      `select current_setting('server_version_num')::int / 10000 as major, current_user as role, rolsuper as super,
              (select extversion from pg_catalog.pg_extension where extname = 'vector') as vector, (select system_identifier::text from pg_control_system()) as identity
         from pg_catalog.pg_roles where rolname = current_user`,
    );
    return rows[0]!;
  });

test('masters of both majors run side by side, with a role that is no superuser', async () => {
  await using masters = await startMasters({ major: [18, 16, 18] });
  const found = await Promise.all(masters.nodes.map((node) => facts(node.url)));
  expect(found.map((one) => one.major)).toEqual([18, 16, 18]);
  expect(found.map((one) => one.super)).toEqual([false, false, false]);
  expect(found.every((one) => one.vector.startsWith('0.8'))).toBe(true);
  expect(new Set(found.map((one) => one.identity)).size).toBe(3);
}, 120_000);

test('origin privileges are there only when asked for', async () => {
  const tryOrigins = (url: string) =>
    withClient(url, async (client) => {
      await client.query('begin; set local session_replication_role = replica');
      await client.query(`select pg_replication_origin_create('probe')`);
      await client.query('rollback');
    });
  await using granted = await startMasters({ count: 1, originPrivileges: true });
  await using plain = await startMasters({ count: 1 });
  await tryOrigins(granted.nodes[0]!.url);
  await expect(tryOrigins(plain.nodes[0]!.url)).rejects.toMatchObject({ code: '42501' });
}, 120_000);

test('a master that was killed starts again with what was committed', async () => {
  await using masters = await startMasters({ count: 1 });
  const [node] = masters.nodes;
  await withClient(node!.url, (client) => client.query('create table kept as select 1 as one'));
  await node!.kill9();
  await node!.start();
  await withClient(node!.url, async (client) =>
    expect((await client.query('select one from kept')).rows).toEqual([{ one: 1 }]),
  );
  await node!.restart();
  expect(node!.isRunning).toBe(true);
}, 120_000);

test('what a failed test leaves is kept, what a passed one leaves is not', async () => {
  let folder = '';
  const failing = withMasters({ count: 1 }, (masters) => {
    folder = masters.folder;
    throw new Error('as a failing test does');
  });
  await expect(failing).rejects.toThrow('as a failing test does');
  expect(existsSync(join(folder, 'n1', 'log'))).toBe(true);
  rmSync(folder, { recursive: true });
  const passed = await withMasters({ count: 1 }, (masters) => Promise.resolve(masters.folder));
  expect(existsSync(passed)).toBe(false);
}, 120_000);

test('fresh nodes are separate databases that go, slots and prepared transactions included', async () => {
  let server = '';
  let cluster = '';
  {
    await using fresh = await freshNodes({ count: 2 });
    ({ cluster } = fresh);
    server = fresh.nodes[0]!.superUrl.replace(/[^/]+$/, 'postgres');
    expect(fresh.nodes.map((node) => node.name)).toEqual(['n1', 'n2']);
    await withClient(fresh.nodes[0]!.url, async (client) => {
      await client.query('create table only_here ()');
      await client.query(`select pg_create_logical_replication_slot($1, 'pgoutput')`, [
        `${fresh.cluster}_slot`,
      ]);
      await client.query(
        `begin; insert into only_here default values; prepare transaction 'left behind in ${fresh.cluster}'`,
      );
    });
    await withClient(fresh.nodes[1]!.url, async (client) =>
      expect((await client.query(`select to_regclass('only_here') as found`)).rows).toEqual([
        { found: null },
      ]),
    );
  }
  const left = await withClient(server, (client) =>
    client.query('select datname from pg_catalog.pg_database where datname like $1', [`${cluster}%`]),
  );
  expect(left.rows).toEqual([]);
}, 120_000);

test('a killed test process leaves no server behind', async () => {
  const script = `
    import { startMasters } from ${JSON.stringify(join(import.meta.dirname, '../../libs/core/src/testing/masters.pg.ts'))};
    const masters = await startMasters({ count: 1 });
    console.log(masters.nodes[0].dataDir);
    setInterval(() => {}, 1000);`;
  const child = spawn(process.execPath, ['--input-type=module', '-e', script], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const dataDir = await new Promise<string>((resolve) =>
    child.stdout.once('data', (chunk: Buffer) => resolve(chunk.toString().trim())),
  );
  const postmaster = identify(Number(readFileSync(join(dataDir, 'postmaster.pid'), 'utf8').split('\n')[0]));
  expect(postmaster).toBeDefined();
  child.kill('SIGKILL');
  const deadline = Date.now() + 20_000;
  while ((isRunning(postmaster!) || existsSync(dataDir)) && Date.now() < deadline) await delay(20);
  expect(isRunning(postmaster!)).toBe(false);
  expect(existsSync(dataDir)).toBe(false);
}, 120_000);
