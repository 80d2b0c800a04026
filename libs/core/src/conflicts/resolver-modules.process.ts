/**
 * Custom resolvers that are modules: `resolve(ours, theirs, context)` in a file of one folder. Each runs in a thread of its own, without this process's
 * environment, with bounds on time and memory; a thread that goes beyond them is ended and made anew. It is code of the operator's, not of a
 * stranger's: a thread keeps mistakes in, it is no sandbox.
 */
import { readFile } from 'node:fs/promises';
import { extname, join, resolve as resolvePath } from 'node:path';
import { pathToFileURL } from 'node:url';
import { Worker } from 'node:worker_threads';
import { projectRoot } from '../config/project-root.files.ts';
import {
  ResolverFailure,
  resolverVersion,
  type Resolver,
  type ResolverContext,
  type ResolverSide,
} from './resolver.ts';
import type { WorkerAnswer, WorkerQuestion } from './resolver-worker.process.ts';

const extensions: ReadonlySet<string> = new Set(['.ts', '.mjs', '.js']);
/** Starting a thread and loading a module may take longer than an answer. */
const loadTimeoutMs = 30_000;
/** This file is TypeScript in tests; when built it may be a part of an application's one file, the worker never is. */
const workerFile = import.meta.url.endsWith('.ts')
  ? new URL('./resolver-worker.process.ts', import.meta.url)
  : pathToFileURL(join(projectRoot, 'dist/libs/core/src/conflicts/resolver-worker.process.js'));

export interface ModuleLimits {
  readonly folder: string | undefined;
  readonly timeoutMs: number;
  readonly memoryBytesMax: number;
}

/** The text of a module, or why there is none. */
export async function readModule(
  folder: string | undefined,
  file: string,
): Promise<{ readonly text: string; readonly path: string } | { readonly missing: string }> {
  if (folder === undefined) return { missing: `module ${file}: PGQUORUM_RESOLVERS_DIR is not set` };
  if (!extensions.has(extname(file)))
    return { missing: `module ${file}: must end in ${[...extensions].join(', ')}` };
  const path = join(resolvePath(folder), file);
  try {
    return { text: await readFile(path, 'utf8'), path };
  } catch (cause) {
    return { missing: `module ${file}: ${(cause as { code?: string }).code ?? 'can not be read'}` };
  }
}

export class ResolverModules implements AsyncDisposable {
  readonly #limits: ModuleLimits;
  readonly #threads = new Map<string, Thread>();

  constructor(limits: ModuleLimits) {
    this.#limits = limits;
  }

  /** Throws a ResolverFailure when the file is missing. */
  async open(file: string): Promise<Resolver> {
    const found = await readModule(this.#limits.folder, file);
    if ('missing' in found) throw new ResolverFailure(found.missing);
    const version = resolverVersion(found.text);
    return {
      name: `module:${file}`,
      version,
      resolve: async (ours, theirs, context) => {
        const thread = await this.#thread(file, version, found.path);
        return thread.ask(ours, theirs, context);
      },
    };
  }

  /** One thread for each file: that of an older text is ended. */
  async #thread(file: string, version: string, path: string): Promise<Thread> {
    const known = this.#threads.get(file);
    if (known?.isUsable === true && known.version === version) return known;
    // Nothing is awaited in between, so that of questions that come together one makes the thread.
    const thread = new Thread(path, version, this.#limits);
    this.#threads.set(file, thread);
    await known?.end();
    await thread.loaded();
    // The thread reads the file itself: what it has read must be what the version says.
    if (resolverVersion(await readFile(path, 'utf8')) !== version) {
      await thread.end();
      throw new ResolverFailure('the module was changed while it was loaded');
    }
    return thread;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all([...this.#threads.values()].map((thread) => thread.end()));
    this.#threads.clear();
  }
}

class Thread {
  readonly version: string;
  readonly #worker: Worker;
  readonly #limits: ModuleLimits;
  #ended: string | null = null;
  #turn: Promise<unknown>;
  #waiting: ((answer: WorkerAnswer) => void) | null = null;
  readonly #loaded: Promise<unknown>;

  constructor(path: string, version: string, limits: ModuleLimits) {
    this.version = version;
    this.#limits = limits;
    this.#worker = new Worker(workerFile, {
      workerData: { url: pathToFileURL(path).href },
      env: {},
      execArgv: [],
      resourceLimits: { maxOldGenerationSizeMb: Math.ceil(limits.memoryBytesMax / (1024 * 1024)) },
    });
    this.#worker.unref();
    this.#worker.on('message', (answer: WorkerAnswer) => this.#waiting?.(answer));
    this.#worker.on('error', (error: Error & { code?: string }) =>
      this.#stop(
        error.code === 'ERR_WORKER_OUT_OF_MEMORY'
          ? `took more than ${limits.memoryBytesMax} bytes of memory`
          : `threw: ${error.message}`,
      ),
    );
    this.#worker.on('exit', () => this.#stop('ended its thread'));
    this.#loaded = this.#answer(loadTimeoutMs);
    // Questions wait for it; that it failed is told to each of them.
    this.#turn = this.#loaded.catch((cause: Error) => this.#stop(cause.message));
  }

  get isUsable(): boolean {
    return this.#ended === null;
  }

  async loaded(): Promise<void> {
    await this.#loaded;
  }

  /** One question at a time. */
  ask(ours: ResolverSide, theirs: ResolverSide, context: ResolverContext): Promise<unknown> {
    const asked = this.#turn.then(() => {
      if (this.#ended !== null) throw new ResolverFailure(this.#ended);
      const answer = this.#answer(this.#limits.timeoutMs);
      this.#worker.postMessage({ ours, theirs, context } satisfies WorkerQuestion);
      return answer;
    });
    this.#turn = asked.catch(() => undefined); // its asker is told
    return asked;
  }

  #answer(timeoutMs: number): Promise<unknown> {
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => this.#stop(`took longer than ${timeoutMs} ms`), timeoutMs);
      this.#waiting = (answer) => {
        clearTimeout(timer);
        this.#waiting = null;
        if (answer.kind === 'failed') reject(new ResolverFailure(answer.error));
        else resolve(answer.kind === 'result' ? answer.result : undefined);
      };
    });
  }

  #stop(reason: string): void {
    if (this.#ended !== null) return;
    this.#ended = reason;
    void this.#worker.terminate();
    this.#waiting?.({ kind: 'failed', error: reason });
  }

  async end(): Promise<void> {
    this.#stop('was ended');
    await this.#worker.terminate();
  }
}
