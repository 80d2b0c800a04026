/** Examples of the documentation as programs: what their comments say is what they have to print. */
import { execFile } from 'node:child_process';
import { readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';

const root = join(import.meta.dirname, '..');

export interface Example {
  readonly code: string;
  /** Of each `console.log` that a comment follows, the comment. */
  readonly expected: readonly string[];
}

/** The example at this place of a page. */
export async function example(page: string, place: number): Promise<Example> {
  const text = await readFile(join(root, page), 'utf8');
  const code = [...text.matchAll(/```js\n([\s\S]*?)```/g)][place]![1]!;
  const lines = code.split('\n');
  const expected = lines
    .filter((line, at) => line.startsWith('// ') && /console\.log\(|^\}$/.test(lines[at - 1] ?? ''))
    .map((line) => line.slice(3));
  return { code, expected };
}

/** What it prints, by lines. */
export async function print(
  code: string,
  env: Record<string, string> = {},
  timeout = 50_000,
): Promise<string[]> {
  // Within the package, so that it finds itself by its name.
  const file = join(root, `.example-${process.pid}.mjs`);
  await writeFile(file, code);
  try {
    const { stdout } = await promisify(execFile)(process.execPath, [file], {
      cwd: root,
      env: { ...process.env, ...env },
      timeout,
    });
    return stdout.trimEnd().split('\n');
  } finally {
    await rm(file);
  }
}
