/** Embedded masters through crashes: what an earlier run left, and what must never be touched. */
import { execFileSync, spawn } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, realpathSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { firstClosedFolder, makePassage, serverAccount } from '#core/embedded/account.os.ts';
import { withClient } from '#core/embedded/database.pg.ts';
import { isHeld, readHolder, tryLock } from '#core/embedded/lock.os.ts';
import { EmbeddedMaster } from '#core/embedded/master.pg.ts';
import { freePorts } from '#core/embedded/ports.os.ts';
import { identify } from '#core/embedded/process.os.ts';
import { testServerSettings } from '#core/embedded/server-settings.ts';
import { testInstallation } from '#core/testing/template.pg.ts';

let folder = '';
const masters: EmbeddedMaster[] = [];

beforeEach(() => {
  folder = realpathSync(mkdtempSync(join(tmpdir(), 'pgquorum-embedded-')));
  execFileSync('chmod', ['711', folder]);
});

afterEach(async () => {
  await Promise.all(masters.splice(0).map((master) => master.stop('immediate')));
  rmSync(folder, { recursive: true, force: true });
});

async function makeMaster(): Promise<EmbeddedMaster> {
  const installation = await testInstallation(18);
  const master = new EmbeddedMaster({
    name: 'n1',
    zone: 'z1',
    nodesFolder: join(folder, 'nodes'),
    logFile: join(folder, 'log'),
    installation,
    account: serverAccount(),
    settings: testServerSettings,
  });
  masters.push(master);
  return master;
}

const dataDir = () => join(folder, 'nodes/n1/data');
const write = (master: EmbeddedMaster) =>
  withClient(master.url, (client) => client.query('create table kept ()'));
const isKept = (master: EmbeddedMaster) =>
  withClient(
    master.url,
    async (client) => (await client.query(`select from pg_class where relname = 'kept'`)).rowCount === 1,
  );

describe('an embedded master', () => {
  test('runs under a role that is no superuser, may replicate, and may use origins', async () => {
    const master = await makeMaster();
    await master.start();
    const { rows } = await withClient(master.url, (client) =>
      client.query(
        `select current_user as role, rolsuper, rolreplication, has_function_privilege('pg_replication_origin_create(text)', 'execute') as origins,
                has_parameter_privilege('session_replication_role', 'set') as replica, current_setting('wal_level') as wal
           from pg_roles where rolname = current_user`,
      ),
    );
    expect(rows).toEqual([
      {
        role: 'pgquorum',
        rolsuper: false,
        rolreplication: true,
        origins: true,
        replica: true,
        wal: 'logical',
      },
    ]);
  }, 120_000);

  test('keeps data and port over a stop', async () => {
    const master = await makeMaster();
    await master.start();
    await write(master);
    const { port } = master.server;
    await master.stop('fast');
    await master.start();
    expect(master.server.port).toBe(port);
    expect(await isKept(master)).toBe(true);
  }, 120_000);

  test('takes another port when its own is taken', async () => {
    const master = await makeMaster();
    await master.start();
    const { port } = master.server;
    await master.stop('fast');
    const squatter = spawn('python3', ['-m', 'http.server', String(port), '--bind', '127.0.0.1'], {
      stdio: 'ignore',
    });
    try {
      await waitUntilTaken(port);
      await master.start();
      expect(master.server.port).not.toBe(port);
    } finally {
      squatter.kill();
    }
  }, 120_000);

  test('ends the server that an earlier run left on its data folder, and loses nothing', async () => {
    const earlier = await makeMaster();
    await earlier.start();
    await write(earlier);
    const left = earlier.server.pid;
    const later = await makeMaster();
    await later.start();
    expect(left).toBeDefined();
    expect(identify(left!)).toBeUndefined();
    expect(earlier.server.isRunning).toBe(false);
    expect(await isKept(later)).toBe(true);
  }, 120_000);

  test('starts after a crash although its lock file names a stranger, who is left alone', async () => {
    const master = await makeMaster();
    await master.start();
    await write(master);
    const lock = readFileSync(join(dataDir(), 'postmaster.pid'), 'utf8');
    await master.server.kill9();
    const stranger = spawn('sleep', ['60'], { stdio: 'ignore' });
    try {
      writeFileSync(join(dataDir(), 'postmaster.pid'), lock.replace(/^\d+/, String(stranger.pid)));
      await master.start();
      expect(await isKept(master)).toBe(true);
      expect(identify(stranger.pid!)).toBeDefined();
    } finally {
      stranger.kill();
    }
  }, 120_000);

  test('is made anew when its first start was killed half-way', async () => {
    const making = join(folder, 'nodes/.making-n1');
    makePassage(join(folder, 'nodes'), serverAccount());
    mkdirSync(join(making, 'data'), { recursive: true });
    writeFileSync(join(making, 'data/PG_VERSION'), '18');
    const master = await makeMaster();
    await master.start();
    await write(master);
    expect(await isKept(master)).toBe(true);
  }, 120_000);
});

async function waitUntilTaken(port: number): Promise<void> {
  const deadline = Date.now() + 20_000;
  while (Date.now() < deadline) {
    try {
      await fetch(`http://127.0.0.1:${port}/`);
      return;
    } catch {
      await new Promise((resolve) => setTimeout(resolve, 20)); // not listening yet
    }
  }
  throw new Error(`nobody took port ${port}`);
}

describe('a lock file', () => {
  test('is held by one of several starters', async () => {
    const source = join(import.meta.dirname, '../../libs/core/src/embedded/lock.os.ts');
    const script = `
      const { tryLock, isHeld } = await import(${JSON.stringify(source)});
      process.stdout.write(isHeld(tryLock(process.argv[1])) ? 'held' : 'not');
      process.stdin.once('end', () => process.exit()).resume();`;
    const starters = Array.from({ length: 6 }, () =>
      spawn(process.execPath, ['--input-type=module', '-e', script, join(folder, 'lock')], {
        stdio: ['pipe', 'pipe', 'ignore'],
      }),
    );
    const answers = await Promise.all(
      starters.map(
        (one) =>
          new Promise<string>((resolve) =>
            one.stdout.once('data', (chunk: Buffer) => resolve(chunk.toString())),
          ),
      ),
    );
    for (const one of starters) one.stdin.end();
    expect(answers.sort()).toEqual(['held', 'not', 'not', 'not', 'not', 'not']);
  }, 60_000);

  test('does not outlive its holder, nor the reuse of its number', () => {
    const path = join(folder, 'lock');
    writeFileSync(path, JSON.stringify({ pid: process.pid, startedAt: 'at another time' }));
    const first = tryLock(path);
    expect(isHeld(first)).toBe(true);
    expect(readHolder(path)?.pid).toBe(process.pid);
    expect(isHeld(tryLock(path))).toBe(false);
    if (isHeld(first)) first.release();
    expect(readHolder(path)).toBeUndefined();
    writeFileSync(path, 'half a lo');
    expect(isHeld(tryLock(path))).toBe(true);
  });
});

test('ports that are found free are different and can be bound', async () => {
  const ports = await freePorts(20);
  expect(new Set(ports).size).toBe(20);
});

test('a folder that the account of the servers may not pass is named', () => {
  const account = { name: 'nobody', uid: 65534, gid: 65534 };
  const closed = join(folder, 'closed');
  mkdirSync(join(closed, 'inside'), { recursive: true });
  execFileSync('chmod', ['700', closed]);
  execFileSync('chmod', ['711', folder]);
  expect(firstClosedFolder(join(closed, 'inside/not/yet/there'), account)).toBe(closed);
  execFileSync('chmod', ['711', closed]);
  expect(firstClosedFolder(join(closed, 'inside/not/yet/there'), account)).toBe(undefined);
});
