/**
 * Server processes that never outlive the tests that need them.
 *
 * Jest may be killed at any moment, and a worker process ends before the run does, so neither can be trusted to stop what it started.
 * Each server is therefore the child of a small shell, in a session of its own, which looks twice a second whether the watched process
 * (the run, or one test's worker) is still there, and otherwise ends the server and removes its folder, and the run's folder once
 * nothing is left in it. (Postgres is several processes and has guards of its own: guard.os.ts.)
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { identify, isRunning, signal, waitForExit, type ProcessIdentity } from '../embedded/process.os.ts';

/**
 * Arguments: watched pid, folder, then the command. `/proc` is preferred to `kill -0` because it shows zombies for what they are. Nobody
 * reads the data any more when the guard acts, so the server gets no time to stop in order.
 */
const GUARD = `
watched=$1 folder=$2; shift 2
alive() {
  if [ -r /proc/self/status ]; then
    [ -r "/proc/$1/status" ] || return 1
    while read -r key value rest; do
      if [ "$key" = State: ]; then [ "$value" != Z ] && return 0; return 1; fi
    done < "/proc/$1/status"
    return 1
  fi
  kill -0 "$1" 2>/dev/null
}
"$@" </dev/null >>"$folder/log" 2>&1 &
child=$!
echo "$child" > "$folder/pid.new" && mv "$folder/pid.new" "$folder/pid"
while alive "$watched" && alive "$child"; do sleep 0.5; done
alive "$watched" && exit
kill -s KILL "$child" 2>/dev/null
sleep 0.2
rm -rf "$folder"
case "$(basename "$(dirname "$folder")")" in pgquorum-run-*) rmdir "$(dirname "$folder")" 2>/dev/null ;; esac
`;

export interface GuardedOptions {
  /** The server's own folder: gets `log` and `pid`, and is removed when the watched process ends. */
  folder: string;
  command: string;
  args: readonly string[];
  env?: NodeJS.ProcessEnv;
  /** Whose end is the server's end. Default: this process. */
  watchedPid?: number;
}

export class GuardedServer {
  readonly identity: ProcessIdentity;
  readonly folder: string;

  constructor(identity: ProcessIdentity, folder: string) {
    this.identity = identity;
    this.folder = folder;
  }

  running(): boolean {
    return isRunning(this.identity);
  }

  /** Sends a signal and waits until the server is gone; false when it still runs after `waitMsMax`. */
  async end(signalName: NodeJS.Signals, waitMsMax: number): Promise<boolean> {
    if (this.running()) signal(this.identity.pid, signalName);
    return waitForExit(this.identity, waitMsMax);
  }

  log(): string {
    return readFileSync(join(this.folder, 'log'), 'utf8');
  }
}

/** Starts a server under a guard; resolves once its process exists (which says nothing about its being ready). */
export async function startGuarded(options: GuardedOptions): Promise<GuardedServer> {
  const { folder, command, args, env, watchedPid = process.pid } = options;
  mkdirSync(folder, { recursive: true });
  rmSync(join(folder, 'pid'), { force: true });
  const guard = spawn('sh', ['-c', GUARD, 'guard', String(watchedPid), folder, command, ...args], {
    detached: true,
    stdio: 'ignore',
    env: env ?? process.env,
  });
  guard.unref();
  const pid = await readPid(folder, guard);
  const identity = identify(pid);
  if (identity === undefined)
    throw new Error(`${command} ended at once:\n${readFileSync(join(folder, 'log'), 'utf8')}`);
  return new GuardedServer(identity, folder);
}

/** The guard writes the server's pid as the first thing it does. */
async function readPid(folder: string, guard: ChildProcess): Promise<number> {
  let failure: string | undefined;
  guard.once('error', (cause) => (failure = cause.message));
  guard.once('exit', (code) => (failure = `it ended with code ${code}`));
  for (;;) {
    if (existsSync(join(folder, 'pid'))) return Number(readFileSync(join(folder, 'pid'), 'utf8'));
    if (failure !== undefined) throw new Error(`the guard of ${folder} did not start its server: ${failure}`);
    await delay(5);
  }
}
