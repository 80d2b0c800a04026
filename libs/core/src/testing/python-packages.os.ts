/** Python with packages of its own, kept in the cache folder: what consumers in that language need. */
import { existsSync, mkdirSync, renameSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { machineCacheDir } from '../embedded/find-postgres.os.ts';
import { waitForLock } from '../embedded/lock.os.ts';
import { run } from '../embedded/process.os.ts';

const installMsMax = 300_000;

export type PythonAvailability =
  | { readonly kind: 'available'; readonly python: string }
  | { readonly kind: 'unavailable'; readonly reason: string };

/** An interpreter that has these packages, installed on first use; or why there is none. */
export async function pythonWith(name: string, packages: readonly string[]): Promise<PythonAvailability> {
  const folder = join(machineCacheDir(), `python-${name}`);
  const python = join(folder, 'bin/python');
  mkdirSync(machineCacheDir(), { recursive: true, mode: 0o755 });
  const lock = await waitForLock(`${folder}.lock`, installMsMax);
  try {
    if (existsSync(join(folder, 'complete'))) return { kind: 'available', python };
    rmSync(folder, { recursive: true, force: true });
    const made = await run('python3', ['-m', 'venv', folder], { timeoutMs: installMsMax });
    if (made.code !== 0)
      return {
        kind: 'unavailable',
        reason: 'python3 with venv is needed (Debian: apt-get install python3-venv)',
      };
    const installed = await run(python, ['-m', 'pip', 'install', '-q', ...packages], {
      timeoutMs: installMsMax,
    });
    if (installed.code !== 0)
      return {
        kind: 'unavailable',
        reason: `pip could not install ${packages.join(', ')}: ${firstError(installed.stderr)}`,
      };
    mkdirSync(join(folder, 'complete.new'));
    renameSync(join(folder, 'complete.new'), join(folder, 'complete'));
    return { kind: 'available', python };
  } finally {
    lock.release();
  }
}

const firstError = (text: string): string =>
  text.split('\n').find((line) => /error/i.test(line)) ?? text.slice(0, 200);
