/**
 * One process of pgquorum (gateway, replicator) under supervision: started in a process group of its own, so that Ctrl-C in the terminal does
 * not reach it before its turn; started again when it ends by itself, later and later while it keeps failing; ended with time to drain.
 */
import { spawn, type ChildProcess } from 'node:child_process';
import { closeSync, existsSync, openSync, renameSync, statSync, writeSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { readLogLine } from './log-line.ts';

const firstRetryMs = 200;
const lastRetryMs = 10_000;
/** A child that lived this long was well: its next failure is a first one again. */
const wellAfterMs = 60_000;
const logBytesMax = 16 * 1024 * 1024;

export interface ChildOptions {
  readonly name: string;
  readonly entry: string;
  /** Asked for at every start, so that a new start may use other ports. */
  readonly environment: () => NodeJS.ProcessEnv | Promise<NodeJS.ProcessEnv>;
  readonly logFile: string;
  readonly say: (line: string) => void;
  /** It came or went. */
  readonly onChange: () => void;
}

export class SupervisedChild {
  readonly name: string;
  readonly #options: ChildOptions;
  #child: ChildProcess | undefined;
  #stopping = false;
  #failures = 0;
  #lastWords = '';
  #retry: NodeJS.Timeout | undefined;

  constructor(options: ChildOptions) {
    this.name = options.name;
    this.#options = options;
  }

  get pid(): number | undefined {
    return this.#child?.pid;
  }

  /** How often in a row it ended by itself soon after its start. */
  get failures(): number {
    return this.#failures;
  }

  /** The last warning or error it logged. */
  get lastWords(): string {
    return this.#lastWords;
  }

  async start(): Promise<void> {
    const { entry, environment, logFile, onChange } = this.#options;
    const env = await environment();
    if (this.#stopping) return;
    rotate(logFile);
    const log = openSync(logFile, 'a', 0o600);
    const startedAt = performance.now();
    const child = spawn(process.execPath, ['--enable-source-maps', entry], {
      env,
      stdio: ['ignore', 'pipe', 'pipe'],
      detached: true,
    });
    this.#child = child;
    for (const stream of [child.stdout, child.stderr]) {
      createInterface({ input: stream }).on('line', (line) => this.#heard(line, log));
    }
    let ended = false;
    const end = (how: string) => {
      if (ended) return;
      ended = true;
      closeSync(log);
      this.#child = undefined;
      onChange();
      this.#ended(how, performance.now() - startedAt);
    };
    child.once('error', (cause) => end(cause.message));
    child.once('close', (code, by) => end(by === null ? `code ${code}` : by));
    onChange();
  }

  /** SIGTERM, time to drain, then SIGKILL. Answers whether it ended by itself. */
  async stop(timeoutMs: number): Promise<boolean> {
    this.#stopping = true;
    clearTimeout(this.#retry);
    const child = this.#child;
    if (child === undefined) return true;
    return new Promise((resolve) => {
      let clean = true;
      const impatience = setTimeout(() => {
        clean = false;
        child.kill('SIGKILL');
      }, timeoutMs);
      child.once('close', (code) => {
        clearTimeout(impatience);
        resolve(clean && code === 0);
      });
      child.kill('SIGTERM');
    });
  }

  #heard(line: string, log: number): void {
    writeSync(log, `${line}\n`);
    const entry = readLogLine(line);
    if (entry === undefined) return;
    this.#lastWords = entry.text;
    this.#options.say(`${this.name} ${entry.level}: ${entry.text}`);
  }

  #ended(how: string, livedMs: number): void {
    if (this.#stopping) return;
    this.#failures = livedMs >= wellAfterMs ? 1 : this.#failures + 1;
    const waitMs = Math.min(firstRetryMs * 2 ** (this.#failures - 1), lastRetryMs);
    this.#options.say(
      `${this.name} ended (${how}) and is started again in ${waitMs} ms; its log is ${this.#options.logFile}`,
    );
    this.#retry = setTimeout(() => {
      this.start().catch((cause: unknown) => this.#ended((cause as Error).message, 0));
    }, waitMs);
  }
}

function rotate(logFile: string): void {
  if (existsSync(logFile) && statSync(logFile).size > logBytesMax) renameSync(logFile, `${logFile}.1`);
}
