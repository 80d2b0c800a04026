/**
 * No test leaves a Postgres behind, not even one that was killed: a small shell outlives the test process and ends the servers of the data
 * folders it was told. It learns of the end through a pipe that the system closes, or by watching a process that is not its starter.
 */
import { spawn, type ChildProcess } from 'node:child_process';

/** The arguments are pairs of a server's process and its data folder: ends the servers, then removes the folder around each. */
const reap = `
n=$#; i=0
while [ $i -lt $n ]; do kill -QUIT "$1" 2>/dev/null; set -- "$@" "$1" "$2"; shift 2; i=$((i+2)); done
while [ $# -gt 0 ]; do
  n=0
  while kill -0 "$1" 2>/dev/null && [ $n -lt 50 ]; do sleep 0.1; n=$((n+1)); done
  rm -rf "$(dirname "$2")"
  rmdir "$(dirname "$(dirname "$2")")" 2>/dev/null
  shift 2
done`;

const byPipe = `
trap '' INT TERM HUP
while IFS= read -r line; do
  pid=\${line#?}; pid=\${pid%% *}
  case $line in
    +*) set -- "$@" "$pid" "\${line#* }" ;;
    -*) n=$#; while [ $n -gt 0 ]; do p=$1; d=$2; shift 2; [ "$p" = "$pid" ] || set -- "$@" "$p" "$d"; n=$((n-2)); done ;;
  esac
done
${reap}`;

const byWatching = `
trap '' INT TERM HUP
owner=$1; shift
while kill -0 "$owner" 2>/dev/null && ! grep -qs '^State:[[:space:]]*Z' "/proc/$owner/status"; do sleep 0.3; done
${reap}`;

/** Guards servers of this process, each from its start to its end. */
export class Guard {
  #shell: ChildProcess | undefined;
  readonly #pids = new Set<number>();

  add(pid: number, dataDir: string): void {
    if (this.#shell === undefined) {
      this.#shell = spawn('sh', ['-c', byPipe], { stdio: ['pipe', 'ignore', 'ignore'], detached: true });
      this.#shell.unref();
      (this.#shell.stdin as unknown as { unref(): void }).unref();
    }
    this.#pids.add(pid);
    this.#shell.stdin?.write(`+${pid} ${dataDir}\n`);
  }

  remove(pid: number): void {
    if (!this.#pids.delete(pid)) return;
    this.#shell?.stdin?.write(`-${pid} \n`);
    if (this.#pids.size > 0) return;
    this.#shell?.stdin?.end();
    this.#shell = undefined;
  }
}

/** Guards a server for as long as the process `owner` lives. */
export function guardWhileAlive(options: { owner: number; pid: number; dataDir: string }): void {
  spawn('sh', ['-c', byWatching, 'sh', String(options.owner), String(options.pid), options.dataDir], {
    stdio: 'ignore',
    detached: true,
  }).unref();
}
