/**
 * What happens to the processes of a supervisor that was killed. A small shell that outlives it hears of its end through a pipe, which the
 * system closes, and ends the others in order; and should that be killed as well, the next start finds the processes by their record.
 */
import { spawn, type ChildProcess } from 'node:child_process';
import { existsSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { identify, isRunning, signal, waitForExit, type ProcessIdentity } from '#core/embedded/process.os.ts';

const drainMs = 15_000;

/**
 * Each line it reads replaces what it knows: pids of children, then `--`, then pids of masters. At the end of its input it lets the children drain for
 * up to 15 s, then stops the masters that are still the same processes as when they were told (their parent is gone, so their number is theirs).
 */
const watch = `
trap '' INT TERM HUP
line=
while IFS= read -r next; do line=$next; done
children=\${line%%--*}; masters=\${line#*--}
[ "$line" = "$masters" ] && masters=
for pid in $children; do kill -TERM "$pid" 2>/dev/null; done
for pid in $children; do n=0; while kill -0 "$pid" 2>/dev/null && [ $n -lt 150 ]; do sleep 0.1; n=$((n+1)); done; kill -KILL "$pid" 2>/dev/null; done
for pid in $masters; do kill -INT "$pid" 2>/dev/null; done
exit 0`;

/** Keeps both the shell and the record up to date. */
export class ProcessRecord {
  readonly #file: string;
  #shell: ChildProcess | undefined;
  #children: readonly ProcessIdentity[] = [];

  constructor(file: string) {
    this.#file = file;
  }

  /** Ends children that an earlier supervisor left running. Only a process with the recorded number and start time is touched. */
  async endLeftovers(): Promise<string[]> {
    if (!existsSync(this.#file)) return [];
    const left = readRecord(this.#file).filter(isRunning);
    for (const one of left) signal(one.pid, 'SIGTERM');
    for (const one of left) {
      if (!(await waitForExit(one, drainMs))) signal(one.pid, 'SIGKILL');
    }
    rmSync(this.#file, { force: true });
    return left.map((one) => String(one.pid));
  }

  /** What runs now. */
  update(running: { children: readonly number[]; masters: readonly number[] }): void {
    this.#children = running.children.map(identify).filter((one) => one !== undefined);
    writeFileSync(`${this.#file}.new`, JSON.stringify(this.#children), { mode: 0o600 });
    renameSync(`${this.#file}.new`, this.#file);
    if (this.#shell === undefined) {
      this.#shell = spawn('sh', ['-c', watch], { stdio: ['pipe', 'ignore', 'ignore'], detached: true });
      this.#shell.stdin?.on('error', () => undefined); // somebody killed it: the record remains
    }
    this.#shell.stdin?.write(
      `${[...this.#children.map((one) => one.pid), '--', ...running.masters].join(' ')}\n`,
    );
  }

  /** Everything ended in order: nothing is left to watch. */
  async close(): Promise<void> {
    rmSync(this.#file, { force: true });
    const shell = this.#shell;
    if (shell === undefined) return;
    this.#shell = undefined;
    await new Promise((resolve) => {
      if (shell.exitCode !== null || shell.signalCode !== null) resolve(undefined);
      shell.once('exit', resolve);
      shell.stdin?.end('--\n');
    });
  }
}

function readRecord(file: string): ProcessIdentity[] {
  try {
    return JSON.parse(readFileSync(file, 'utf8')) as ProcessIdentity[];
  } catch {
    return []; // written in one rename, so damage is somebody else's doing: there is nothing to go by
  }
}
