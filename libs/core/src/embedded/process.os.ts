/**
 * Processes as the operating system sees them: running a program to its end, and telling one process from another that got its number later.
 * A pid alone names nothing (numbers are used again, quickly so in a container), so whoever remembers a pid remembers its start time with it.
 */
import { execFileSync, spawn, type StdioOptions } from 'node:child_process';
import { readFileSync, readdirSync, readlinkSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';

export interface ProcessIdentity {
  readonly pid: number;
  /** Opaque: compared for equality only. */
  readonly startedAt: string;
}

/** The account that a child runs under; undefined = the same as ours. */
export interface ProcessAccount {
  readonly uid: number;
  readonly gid: number;
}

export interface RunOptions {
  readonly account?: ProcessAccount | undefined;
  readonly env?: NodeJS.ProcessEnv;
  readonly cwd?: string;
  readonly input?: string;
  /** What the child prints goes to our standard error as it comes (progress bars) instead of being collected. */
  readonly showOutput?: boolean;
  readonly timeoutMs?: number;
}

export interface RunResult {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs a program to its end. A program that cannot be started is a result with code 127, as in a shell. */
export function run(file: string, args: readonly string[], options: RunOptions = {}): Promise<RunResult> {
  const outputs: StdioOptions = options.showOutput ? ['pipe', 2, 2] : ['pipe', 'pipe', 'pipe'];
  return new Promise((resolve) => {
    const child = spawn(file, [...args], {
      stdio: outputs,
      env: options.env ?? process.env,
      ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
      ...(options.timeoutMs === undefined ? {} : { timeout: options.timeoutMs }),
      ...(options.account === undefined ? {} : { uid: options.account.uid, gid: options.account.gid }),
    });
    const stdout: Buffer[] = [];
    const stderr: Buffer[] = [];
    child.stdout?.on('data', (chunk: Buffer) => stdout.push(chunk));
    child.stderr?.on('data', (chunk: Buffer) => stderr.push(chunk));
    const text = (chunks: Buffer[]) => Buffer.concat(chunks).toString('utf8');
    child.once('error', (cause) => resolve({ code: 127, stdout: text(stdout), stderr: cause.message }));
    child.once('close', (code, signal) => {
      resolve({
        code: code ?? 128,
        stdout: text(stdout),
        stderr: signal === null ? text(stderr) : `${text(stderr)}ended by ${signal}`,
      });
    });
    child.stdin?.on('error', () => undefined); // the child may end without reading its input
    child.stdin?.end(options.input ?? '');
  });
}

/** Who has this pid now; undefined when nobody has (a zombie counts as nobody: it only waits to be collected). */
export function identify(pid: number): ProcessIdentity | undefined {
  if (process.platform === 'linux') {
    try {
      const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
      const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
      return fields[0] === 'Z' || fields[0] === 'X' ? undefined : { pid, startedAt: fields[19] ?? '' };
    } catch {
      return undefined;
    }
  }
  try {
    const line = execFileSync('ps', ['-o', 'stat=,lstart=', '-p', String(pid)], {
      encoding: 'utf8',
      env: { ...process.env, LC_ALL: 'C' },
    }).trim();
    const [state = '', ...started] = line.split(/\s+/);
    return line === '' || state.startsWith('Z') ? undefined : { pid, startedAt: started.join(' ') };
  } catch {
    return undefined;
  }
}

export function isRunning(identity: ProcessIdentity): boolean {
  return identify(identity.pid)?.startedAt === identity.startedAt;
}

/** Sends a signal; false when the process is gone already. */
export function signal(pid: number, name: NodeJS.Signals): boolean {
  try {
    process.kill(pid, name);
    return true;
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === 'ESRCH') return false;
    throw cause;
  }
}

/** Waits until the process is gone; false when it is still there after `timeoutMs`. */
export async function waitForExit(identity: ProcessIdentity, timeoutMs: number): Promise<boolean> {
  const deadline = performance.now() + timeoutMs;
  while (isRunning(identity)) {
    if (performance.now() >= deadline) return false;
    await delay(10);
  }
  return true;
}

/** The processes whose working folder is `folder`. Postgres lives in its data folder, so these are its postmaster and backends. */
export function processesIn(folder: string): ProcessIdentity[] {
  const pids = process.platform === 'linux' ? pidsInProc(folder) : pidsByLsof(folder);
  return pids.map(identify).filter((found) => found !== undefined);
}

function pidsInProc(folder: string): number[] {
  const pids = readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .map(Number);
  return pids.filter((pid) => {
    try {
      return readlinkSync(`/proc/${pid}/cwd`) === folder;
    } catch {
      return false; // gone meanwhile, or another user's: not one of ours
    }
  });
}

function pidsByLsof(folder: string): number[] {
  try {
    const text = execFileSync('lsof', ['-a', '-d', 'cwd', '-t', folder], {
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'ignore'],
    });
    return text.split('\n').filter(Boolean).map(Number);
  } catch {
    return []; // lsof answers 1 when it finds nothing
  }
}
