import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { expect, test } from '@jest/globals';

const script = `
  import { createLogger } from ${JSON.stringify(join(import.meta.dirname, '../../libs/core/src/observability/logger.process.ts'))};
  const log = createLogger({ app: 'replicator', level: 'info' });
  process.stdin.once('data', () => {
    for (let line = 0; line < 2000; line += 1) log.info({ line, filler: 'x'.repeat(200) }, 'still here');
    process.exit(7);
  });
  log.info('started');`;

const logging = () =>
  spawn(process.execPath, ['--input-type=module', '-e', script], { stdio: ['pipe', 'pipe', 'inherit'] });

test('a process whose log nobody reads any more comes to its end', async () => {
  const child = logging();
  const exited = once(child, 'exit') as Promise<[number | null, string | null]>;
  const hung = setTimeout(() => child.kill('SIGKILL'), 20_000);
  try {
    await once(child.stdout, 'data');
    child.stdout.destroy();
    await once(child.stdout, 'close');
    child.stdin.write('go on\n');
    expect(await exited).toEqual([7, null]);
  } finally {
    clearTimeout(hung);
  }
}, 60_000);

test('a reader that is slow gets every line, the last one before the end too', async () => {
  const child = logging();
  const exited = once(child, 'exit');
  child.stdout.setEncoding('utf8');
  let text = '';
  await once(child.stdout, 'readable');
  child.stdin.write('go on\n');
  await new Promise((resolve) => setTimeout(resolve, 200));
  child.stdout.on('data', (chunk: string) => (text += chunk));
  await once(child.stdout, 'end');
  await exited;
  const lines = text.trimEnd().split('\n');
  expect(lines.length).toBe(2001);
  expect(JSON.parse(lines.at(-1)!)).toMatchObject({ line: 1999, msg: 'still here' });
}, 60_000);
