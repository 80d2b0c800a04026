/**
 * One Postgres server as a process: made, started, stopped, and found again after a crash. Who may do what in it is the business of
 * `master.pg.ts`; this file never connects.
 *
 * The server is spawned directly, not through pg_ctl, as the leader of its own process group: Ctrl-C in a terminal goes to the whole
 * foreground group, and the masters have to outlive the gateway and the replicators.
 */
import { spawn, type ChildProcess } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  chownSync,
  closeSync,
  existsSync,
  fstatSync,
  mkdirSync,
  openSync,
  readFileSync,
  realpathSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { PgquorumError } from '../errors/error.ts';
import { giveTo, type ServerAccount } from './account.os.ts';
import { serverEnvironment, type Installation } from './installation.os.ts';
import {
  identify,
  isRunning,
  processesIn,
  run,
  signal,
  waitForExit,
  type ProcessIdentity,
} from './process.os.ts';
import { localeFlags, renderSettings, settingsForMajor, type ServerSettings } from './server-settings.ts';

export type StopMode = 'smart' | 'fast' | 'immediate';
const stopSignals: Readonly<Record<StopMode, NodeJS.Signals>> = {
  smart: 'SIGTERM',
  fast: 'SIGINT',
  immediate: 'SIGQUIT',
};
const logBytesMax = 16 * 1024 * 1024;

export interface ServerOptions {
  readonly installation: Installation;
  readonly account: ServerAccount | undefined;
  readonly dataDir: string;
  readonly logFile: string;
  readonly settings: ServerSettings;
  /** Variables of the server's environment beside those of this process. */
  readonly environment?: Readonly<Record<string, string>> | undefined;
}

export class PostgresServer {
  readonly dataDir: string;
  readonly #options: ServerOptions;
  readonly #spawnListeners = new Set<(pid: number) => void>();
  readonly #exitListeners = new Set<(how: string, pid: number) => void>();
  #child: ChildProcess | undefined;
  #identity: ProcessIdentity | undefined;
  #port: number | undefined;

  constructor(options: ServerOptions) {
    this.#options = options;
    this.dataDir = options.dataDir;
  }

  /** The port while it runs. */
  get port(): number {
    if (this.#port === undefined)
      throw new PgquorumError('embedded_failed', `the server of ${this.dataDir} is not running`);
    return this.#port;
  }

  get isRunning(): boolean {
    return this.#child !== undefined;
  }

  get pid(): number | undefined {
    return this.#identity?.pid;
  }

  /** Called each time a server process was spawned, before it accepts connections. */
  onSpawn(listener: (pid: number) => void): void {
    this.#spawnListeners.add(listener);
  }

  /** Called with what happened each time the server process ends, wanted or not. */
  onExit(listener: (how: string, pid: number) => void): void {
    this.#exitListeners.add(listener);
  }

  /** Makes the data folder with a superuser `postgres`. */
  async init(superuserPassword: string): Promise<void> {
    const { installation, account, dataDir } = this.#options;
    const parent = dirname(dataDir);
    const passwordFile = join(parent, `.${basename(dataDir)}.password`);
    mkdirSync(dataDir, { recursive: true, mode: 0o700 });
    giveTo(dataDir, account);
    try {
      writeFileSync(passwordFile, superuserPassword, { mode: 0o600 });
      giveTo(passwordFile, account);
      const flags = [
        '--username=postgres',
        `--pwfile=${passwordFile}`,
        '--auth=scram-sha-256',
        ...localeFlags(installation.major, process.platform),
        '--no-instructions',
        ...(this.#options.settings['fsync'] === 'off' ? ['--no-sync'] : []),
        `--pgdata=${dataDir}`,
      ];
      const command = installation.command('initdb', flags, { paths: [dataDir, passwordFile], account });
      const answer = await run(command.file, command.args, {
        account: this.#spawnAccount,
        env: serverEnvironment(),
        cwd: parent,
      });
      if (answer.code !== 0)
        throw new PgquorumError('embedded_failed', `initdb in ${dataDir}: ${answer.stderr.trim()}`);
    } finally {
      rmSync(passwordFile, { force: true });
    }
    const from = installation.listenAddress === '*' ? 'all' : '127.0.0.1/32';
    this.#write(
      'pg_hba.conf',
      `host all all ${from} scram-sha-256\nhost replication all ${from} scram-sha-256\n`,
    );
    const conf = readFileSync(join(dataDir, 'postgresql.conf'), 'utf8');
    this.#write('postgresql.conf', `${conf}\ninclude_if_exists = 'pgquorum.conf'\n`);
  }

  /**
   * Starts on this port and waits until connections are accepted. A server that an earlier, killed run left on this data folder is ended first.
   * `embedded_failed` with `extra.portTaken` when somebody was faster on the port.
   */
  async start(port: number, timeoutMs = 300_000): Promise<void> {
    const { installation, account, dataDir, logFile, settings } = this.#options;
    await this.endLeftover();
    const listen = { listen_addresses: installation.listenAddress, port: String(port) };
    this.#write(
      'pgquorum.conf',
      renderSettings({ ...settingsForMajor(settings, installation.major), ...listen }),
    );
    rotate(logFile);
    const log = openSync(logFile, 'a', 0o600);
    const logFrom = fstatSync(log).size;
    const stale = readText(join(dataDir, 'postmaster.pid'));
    const command = installation.command('postgres', ['-D', dataDir], {
      paths: [dataDir],
      port,
      account,
      name: containerName(dataDir),
    });
    const child = spawn(command.file, [...command.args], {
      detached: true,
      stdio: ['ignore', log, log],
      env: { ...serverEnvironment(), ...this.#options.environment },
      cwd: dirname(dataDir),
      ...this.#spawnAccount,
    });
    closeSync(log);
    this.#watch(child);
    await this.#waitUntilReady(child, {
      port,
      timeoutMs,
      stale,
      log: () => readFileSync(logFile, 'utf8').slice(logFrom),
    });
    this.#port = port;
  }

  /** Ends the server; true when it ended as asked, false when it had to be pressed harder. */
  async stop(mode: StopMode, timeoutMs = 60_000): Promise<boolean> {
    const order: StopMode[] =
      mode === 'smart'
        ? ['smart', 'fast', 'immediate']
        : mode === 'fast'
          ? ['fast', 'immediate']
          : ['immediate'];
    for (const step of order) {
      if (this.#child === undefined) return true;
      this.#child.kill(stopSignals[step]);
      if (await this.#ended(timeoutMs)) return step === mode;
    }
    await this.kill9();
    return false;
  }

  /** Ends the server and all of its backends as a crash of the machine's power would: nothing gets to clean up. */
  async kill9(): Promise<void> {
    const child = this.#child;
    if (child === undefined) return;
    const everyone = processesIn(realpathSync(this.dataDir));
    child.kill('SIGKILL');
    for (const one of everyone) if (isRunning(one)) signal(one.pid, 'SIGKILL');
    await this.#ended(30_000);
    await Promise.all(everyone.map((one) => waitForExit(one, 30_000)));
    await this.#options.installation.removeLeftover?.(containerName(this.dataDir));
  }

  /**
   * Ends a server that is still running on this very data folder. Nobody else is ever touched: a process counts only when its working folder
   * is the data folder, which is where a postmaster and its backends live.
   */
  async endLeftover(): Promise<void> {
    if (this.#child !== undefined)
      throw new PgquorumError('embedded_failed', `the server of ${this.dataDir} is running already`);
    await this.#options.installation.removeLeftover?.(containerName(this.dataDir));
    const lock = join(this.dataDir, 'postmaster.pid');
    const locked = existsSync(lock) ? Number(readFileSync(lock, 'utf8').split('\n')[0]) : 0;
    const ours = processesIn(realpathSync(this.dataDir));
    const postmaster = ours.find((one) => one.pid === locked);
    if (postmaster !== undefined) {
      signal(postmaster.pid, 'SIGINT');
      if (!(await waitForExit(postmaster, 30_000))) signal(postmaster.pid, 'SIGQUIT');
    }
    // Backends of a killed postmaster notice its death by themselves, soon; the data folder is not free before.
    for (const one of ours) {
      if (!(await waitForExit(one, 10_000))) signal(one.pid, 'SIGKILL');
    }
    // The number in a stale lock file may be a stranger's by now, or a zombie's that nobody collects (the first process of a container often
    // does not): Postgres would take either for a running server. Nobody is in the data folder any more, so the lock is stale.
    if (locked > 1 && numberIsTaken(locked)) rmSync(lock, { force: true });
  }

  get #spawnAccount(): { uid: number; gid: number } | undefined {
    const { account, installation } = this.#options;
    return account === undefined || installation.folder === undefined
      ? undefined
      : { uid: account.uid, gid: account.gid };
  }

  #write(name: string, content: string): void {
    const path = join(this.dataDir, name);
    writeFileSync(path, content, { mode: 0o600 });
    if (this.#options.account !== undefined)
      chownSync(path, this.#options.account.uid, this.#options.account.gid);
  }

  #watch(child: ChildProcess): void {
    this.#child = child;
    this.#identity = child.pid === undefined ? undefined : identify(child.pid);
    const ended = (how: string) => {
      if (this.#child !== child) return;
      this.#child = undefined;
      this.#identity = undefined;
      this.#port = undefined;
      for (const listener of this.#exitListeners) listener(how, child.pid ?? 0);
    };
    child.once('error', (cause) => ended(cause.message));
    child.once('exit', (code, by) => ended(by === null ? `code ${code}` : by));
    child.unref(); // a server nobody stopped must not keep its starter from ending
    if (child.pid === undefined) return;
    for (const listener of this.#spawnListeners) listener(child.pid);
  }

  async #ended(timeoutMs: number): Promise<boolean> {
    const deadline = performance.now() + timeoutMs;
    while (this.#child !== undefined) {
      if (performance.now() >= deadline) return false;
      await delay(5);
    }
    return true;
  }

  /** As pg_ctl does it: line 1 of postmaster.pid is the process (within a container, one of its own), line 4 the port, line 8 the state. */
  async #waitUntilReady(
    child: ChildProcess,
    from: { port: number; timeoutMs: number; stale: string; log: () => string },
  ): Promise<void> {
    const { port, timeoutMs, stale, log } = from;
    const deadline = performance.now() + timeoutMs;
    const lock = join(this.dataDir, 'postmaster.pid');
    for (;;) {
      if (this.#child !== child) {
        const said = log();
        const portTaken =
          /could not bind|could not create any TCP\/IP sockets|port is already allocated/.test(said);
        const lines = said.trim().split('\n').slice(-5).join(' | ');
        throw new PgquorumError('embedded_failed', `Postgres in ${this.dataDir} did not start: ${lines}`, {
          extra: { portTaken },
        });
      }
      const text = readText(lock);
      const lines = text.split('\n');
      const isNew =
        this.#options.installation.folder === undefined ? text !== stale : lines[0] === String(child.pid);
      if (isNew && lines[3]?.trim() === String(port) && lines[7]?.trim() === 'ready') return;
      if (performance.now() >= deadline) {
        await this.stop('fast');
        throw new PgquorumError(
          'embedded_failed',
          `Postgres in ${this.dataDir} was not ready after ${timeoutMs} ms; see ${this.#options.logFile}`,
        );
      }
      await delay(5);
    }
  }
}

function readText(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return ''; // not written yet
  }
}

function numberIsTaken(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (cause) {
    return (cause as NodeJS.ErrnoException).code !== 'ESRCH';
  }
}

function rotate(logFile: string): void {
  if (existsSync(logFile) && statSync(logFile).size > logBytesMax) renameSync(logFile, `${logFile}.1`);
}

const containerName = (dataDir: string) =>
  `pgquorum-${createHash('sha256').update(dataDir).digest('hex').slice(0, 16)}`;
