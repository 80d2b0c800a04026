/** The package as others import it: its documentation's example runs, and prints what it says. */
import { expect, test } from '@jest/globals';
import { execFile } from 'node:child_process';
import { readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';

const root = join(import.meta.dirname, '..');

test('the example of docs/library.md prints what its comments say', async () => {
  const text = await readFile(join(root, 'docs/library.md'), 'utf8');
  const code = /```js\n([\s\S]*?)```/.exec(text)![1]!;
  const lines = code.split('\n');
  const expected = lines
    .filter((_, at) => lines[at - 1]?.startsWith('console.log('))
    .map((line) => line.slice(3));
  expect(expected.length).toBeGreaterThan(3);
  // Within the package, so that it finds itself by its name.
  const file = join(root, `.library-example-${process.pid}.mjs`);
  await writeFile(file, code);
  try {
    const { stdout } = await promisify(execFile)(process.execPath, [file], { cwd: root });
    expect(stdout.trimEnd().split('\n')).toEqual(expected);
  } finally {
    await rm(file);
  }
});
