/**
 * What the worker processes of one test run share: a folder, and servers started by whichever worker asks first.
 *
 * The run is the jest process. Its workers find each other through a folder named after it; the servers' guards (guarded-server.os.ts)
 * empty it when the run has ended.
 */
import { mkdirSync, readFileSync, realpathSync, renameSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { makePassage, serverAccount } from '../embedded/account.os.ts';
import { waitForLock } from '../embedded/lock.os.ts';
import { identify } from '../embedded/process.os.ts';

/** Jest's own process, whether this is one of its workers or, with `--runInBand`, itself. */
export function testRunPid(): number {
  return /jest-worker[\\/]build[\\/]processChild\.js$/.test(process.argv[1] ?? '')
    ? process.ppid
    : process.pid;
}

/** A path inside the folder of this run. Pids are used again, so the folder is named after the start time too. */
export function testRunFolder(...parts: string[]): string {
  const run = identify(testRunPid());
  if (run === undefined) throw new Error('the test run has ended');
  return join(
    realpathSync(tmpdir()),
    `pgquorum-run-${run.pid}-${run.startedAt.replaceAll(/\W/g, '')}`,
    ...parts,
  );
}

export interface Shared<T> {
  /** Unique within the run; also the folder's name. */
  name: string;
  /** Starts it, watched by `testRunPid()`, with its files in `folder`; the result must survive JSON. */
  start(folder: string): Promise<T>;
  /** Whether what another worker started still answers. */
  answers(value: T): Promise<boolean>;
  startMsMax: number;
}

/** The one instance of this run: started by the first worker to ask, found by all others. */
export async function sharedInTestRun<T>(shared: Shared<T>): Promise<T> {
  const folder = testRunFolder(shared.name);
  // Postgres, which may share the run's folder, runs under an account of its own that must be able to pass.
  makePassage(testRunFolder(), serverAccount());
  mkdirSync(folder, { recursive: true });
  const lock = await waitForLock(`${folder}.lock`, 2 * shared.startMsMax);
  try {
    const description = join(folder, 'shared.json');
    const known = readDescription<T>(description);
    if (known !== undefined && (await shared.answers(known))) return known;
    const value = await shared.start(folder);
    writeFileSync(`${description}.new`, JSON.stringify(value));
    renameSync(`${description}.new`, description);
    return value;
  } finally {
    lock.release();
  }
}

function readDescription<T>(path: string): T | undefined {
  try {
    return JSON.parse(readFileSync(path, 'utf8')) as T;
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw cause;
  }
}
