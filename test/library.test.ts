/** The package as others import it: its documentation's examples run, and print what they say. */
import { expect, test } from '@jest/globals';
import { execFile } from 'node:child_process';
import { readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { freshNodes } from '#core/testing/fresh-nodes.pg.ts';

const root = join(import.meta.dirname, '..');

/** The example at this place, and what its comments say that it prints. */
async function example(place: number): Promise<{ code: string; expected: string[] }> {
  const text = await readFile(join(root, 'docs/library.md'), 'utf8');
  const code = [...text.matchAll(/```js\n([\s\S]*?)```/g)][place]![1]!;
  const lines = code.split('\n');
  const expected = lines
    .filter((line, at) => line.startsWith('// ') && /console\.log\(/.test(lines[at - 1] ?? ''))
    .map((line) => line.slice(3));
  return { code, expected };
}

async function print(code: string, env: Record<string, string> = {}): Promise<string[]> {
  // Within the package, so that it finds itself by its name.
  const file = join(root, `.library-example-${process.pid}.mjs`);
  await writeFile(file, code);
  try {
    const { stdout } = await promisify(execFile)(process.execPath, [file], {
      cwd: root,
      env: { ...process.env, ...env },
      timeout: 240_000,
    });
    return stdout.trimEnd().split('\n');
  } finally {
    await rm(file);
  }
}

test('the example of the algorithms prints what its comments say', async () => {
  const { code, expected } = await example(0);
  expect(expected.length).toBeGreaterThan(3);
  expect(await print(code)).toEqual(expected);
}, 240_000);

test('the example of an embedded replicator prints what its comments say, and the process ends by itself', async () => {
  await using fresh = await freshNodes({ count: 3 });
  const { code, expected } = await example(1);
  expect(expected.length).toBeGreaterThan(4);
  const [eu, us, asia] = fresh.nodes.map(({ url }) => url);
  expect(await print(code, { CLUSTER: fresh.cluster, EU_URL: eu!, US_URL: us!, ASIA_URL: asia! })).toEqual(
    expected,
  );
}, 300_000);
