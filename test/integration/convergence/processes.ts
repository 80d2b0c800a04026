/** Replicators and a gateway as real processes, which a test may kill. They end with the test: their channel to it closes. */
import { spawn, type ChildProcess } from 'node:child_process';
import { appendFileSync } from 'node:fs';
import { once } from 'node:events';
import { join } from 'node:path';
import { projectRoot } from '#core/config/project-root.files.ts';

const restartPauseMs = 500;
const node = join(projectRoot, 'node_modules/.bin/node');

export class AppProcess {
  readonly #app: 'replicator' | 'gateway';
  readonly #env: Readonly<Record<string, string>>;
  readonly #logFile: string;
  #child: ChildProcess | null = null;
  #messages: { kind: string; http?: number; grpc?: number }[] = [];
  readonly #restarts: boolean;
  #restarting: NodeJS.Timeout | undefined;
  #isEnding = false;

  /** `restarts`: as a supervisor does, when it has ended by itself with an error. */
  constructor(
    app: 'replicator' | 'gateway',
    env: Readonly<Record<string, string>>,
    logFile: string,
    { restarts = false }: { readonly restarts?: boolean } = {},
  ) {
    this.#app = app;
    this.#env = env;
    this.#logFile = logFile;
    this.#restarts = restarts;
  }

  get pid(): number | undefined {
    return this.#child?.pid;
  }

  /** `more` goes into its environment this time. */
  start(more: Readonly<Record<string, string>> = {}): void {
    this.#isEnding = false;
    const clean = Object.fromEntries(
      Object.entries(process.env).filter(
        // What tests ask all processes for, as delays, this one is asked for too.
        ([name]) => !/^PGQUORUM_(?!TEST_)/.test(name) && name !== 'NODE_OPTIONS',
      ),
    );
    const child = spawn(node, [join(projectRoot, `dist/apps/${this.#app}/src/main.js`)], {
      env: { ...clean, ...this.#env, ...more },
      stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
    });
    const log = (chunk: Buffer): void => appendFileSync(this.#logFile, chunk);
    child.stdout!.on('data', log);
    child.stderr!.on('data', log);
    child.on('message', (message) => this.#messages.push(message as { kind: string }));
    this.#child = child;
    if (this.#restarts)
      child.once('exit', (code) => {
        if (code !== 0 && code !== null && this.#child === child && !this.#isEnding)
          this.#restarting = setTimeout(() => this.start(more), restartPauseMs);
      });
  }

  /** The addresses that a gateway says it listens on. */
  async listening(): Promise<{ readonly http: string; readonly grpcPort: number }> {
    for (;;) {
      const found = this.#messages.find((message) => message.kind === 'listening');
      if (found) return { http: `http://127.0.0.1:${found.http!}`, grpcPort: found.grpc! };
      if (this.#child === null || this.#child.exitCode !== null)
        throw new Error(`the ${this.#app} ended before it listened; see ${this.#logFile}`);
      await Promise.race([once(this.#child, 'message'), once(this.#child, 'exit')]);
    }
  }

  /** The signal that ended it, once it has; null when it ended by itself. */
  async endedBy(): Promise<NodeJS.Signals | null> {
    const child = this.#child;
    if (child === null) throw new Error(`the ${this.#app} was not started`);
    if (child.exitCode === null && child.signalCode === null) await once(child, 'exit');
    this.#messages = [];
    return child.signalCode;
  }

  /** Freezes it, or lets it go on. */
  signal(signal: 'SIGSTOP' | 'SIGCONT'): void {
    if (this.#child?.kill(signal) !== true) throw new Error(`the ${this.#app} is not running`);
  }

  async kill(signal: 'SIGKILL' | 'SIGTERM'): Promise<number | null> {
    clearTimeout(this.#restarting);
    this.#isEnding = true;
    const child = this.#child;
    if (child === null || child.exitCode !== null || child.signalCode !== null)
      return child?.exitCode ?? null;
    const gone = once(child, 'exit');
    child.kill(signal);
    await gone;
    this.#messages = [];
    return child.exitCode;
  }
}
