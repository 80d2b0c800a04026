/** The supervisor of `pgquorum up`: children that fail, hang, or outlive it. */
import { spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { afterEach, beforeEach, expect, test } from '@jest/globals';
import { identify, isRunning } from '#core/embedded/process.os.ts';
import { SupervisedChild } from '../../apps/cli/src/supervisor/child.ts';
import { ProcessRecord } from '../../apps/cli/src/supervisor/leftovers.ts';

let folder = '';
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'pgquorum-supervisor-'));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

async function until(what: string, holds: () => boolean): Promise<void> {
  const deadline = Date.now() + 30_000;
  while (!holds()) {
    if (Date.now() > deadline) throw new Error(`not in time: ${what}`);
    await delay(10);
  }
}

function child(script: string): { child: SupervisedChild; said: string[]; log: () => string } {
  const entry = join(folder, 'app.mjs');
  const logFile = join(folder, 'app.log');
  writeFileSync(entry, script);
  const said: string[] = [];
  const options = {
    name: 'app',
    entry,
    environment: () => process.env,
    logFile,
    say: (line: string) => void said.push(line),
    onChange: () => undefined,
  };
  return { child: new SupervisedChild(options), said, log: () => readFileSync(logFile, 'utf8') };
}

test('a child that ends by itself is started again, its log goes on, its errors are shown', async () => {
  const app = child(`
    console.error(JSON.stringify({ level: 30, msg: 'one more life' }));
    console.error(JSON.stringify({ level: 50, msg: 'cannot go on' }));
    process.exit(3);`);
  await app.child.start();
  await until('three lives', () => app.log().split('one more life').length > 3);
  expect(app.child.failures).toBeGreaterThanOrEqual(2);
  expect(app.child.lastWords).toBe('cannot go on');
  expect(app.said).toContain('app error: cannot go on');
  expect(app.said.some((line) => line.includes('app ended (code 3)'))).toBe(true);
  await app.child.stop(5000);
  const lives = app.log();
  await delay(600);
  expect(app.log()).toBe(lives);
}, 120_000);

test('a child that drains ends cleanly, one that hangs is killed after its time', async () => {
  const drains = child(`
    const timer = setInterval(() => {}, 1000);
    process.on('SIGTERM', () => { console.error('drained'); clearInterval(timer); });
    console.error('ready');`);
  await drains.child.start();
  await until('it runs', () => drains.log().includes('ready'));
  expect(await drains.child.stop(20_000)).toBe(true);
  expect(drains.log()).toContain('drained');

  const hangs = child(
    `process.on('SIGTERM', () => {}); setInterval(() => {}, 1000); console.error('hanging');`,
  );
  await hangs.child.start();
  await until('it runs', () => hangs.log().includes('hanging'));
  expect(await hangs.child.stop(200)).toBe(false);
  expect(hangs.child.pid).toBeUndefined();
}, 120_000);

test('children do not outlive a supervisor that was killed', async () => {
  const script = `
    const { ProcessRecord } = await import(${JSON.stringify(join(import.meta.dirname, '../../dist/apps/cli/src/supervisor/leftovers.js'))});
    const { spawn } = await import('node:child_process');
    const sleeper = spawn('sleep', ['300'], { detached: true, stdio: 'ignore' });
    const master = spawn('sleep', ['300'], { detached: true, stdio: 'ignore' });
    new ProcessRecord(process.argv[1]).update({ children: [sleeper.pid], masters: [master.pid] });
    process.stdout.write([sleeper.pid, master.pid].join(' '));
    setInterval(() => {}, 1000);`;
  const supervisor = spawn(
    process.execPath,
    ['--input-type=module', '-e', script, join(folder, 'children.json')],
    { stdio: ['ignore', 'pipe', 'inherit'] },
  );
  const told = await new Promise<string>((resolve) =>
    supervisor.stdout.once('data', (chunk: Buffer) => resolve(chunk.toString())),
  );
  const running = told.split(' ').map((pid) => identify(Number(pid))!);
  expect(running.every(isRunning)).toBe(true);
  supervisor.kill('SIGKILL');
  await until('both are gone', () => !running.some(isRunning));
}, 120_000);

test('a later start ends what is recorded, and nobody who has only the same number', async () => {
  const left = spawn('sleep', ['300'], { detached: true, stdio: 'ignore' });
  const stranger = spawn('sleep', ['300'], { detached: true, stdio: 'ignore' });
  try {
    const file = join(folder, 'children.json');
    writeFileSync(
      file,
      JSON.stringify([identify(left.pid!), { pid: stranger.pid, startedAt: 'at another time' }]),
    );
    expect(await new ProcessRecord(file).endLeftovers()).toEqual([String(left.pid)]);
    expect(identify(left.pid!)).toBeUndefined();
    expect(identify(stranger.pid!)).toBeDefined();
    expect(await new ProcessRecord(file).endLeftovers()).toEqual([]);
  } finally {
    left.kill('SIGKILL');
    stranger.kill('SIGKILL');
  }
}, 120_000);
