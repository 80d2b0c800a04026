/** The thread in which the module of a custom resolver runs: loads it, then answers one question after the other. Ended from outside when it takes too long. */
import { parentPort, workerData } from 'node:worker_threads';

export interface WorkerQuestion {
  readonly ours: unknown;
  readonly theirs: unknown;
  readonly context: unknown;
}

export type WorkerAnswer =
  | { readonly kind: 'loaded' }
  | { readonly kind: 'result'; readonly result: unknown }
  | { readonly kind: 'failed'; readonly error: string };

type Resolve = (ours: unknown, theirs: unknown, context: unknown) => unknown;

const port = parentPort;
if (port === null) throw new Error('this file is the main file of a thread');

const answer = (message: WorkerAnswer): void => port.postMessage(message);
const textOf = (error: unknown): string => (error instanceof Error ? error.message : String(error));

async function load(): Promise<Resolve> {
  const module = (await import((workerData as { url: string }).url)) as { resolve?: unknown };
  if (typeof module.resolve !== 'function') throw new TypeError('the module exports no function resolve');
  return module.resolve as Resolve;
}

async function ask(resolve: Resolve, { ours, theirs, context }: WorkerQuestion): Promise<void> {
  try {
    // What can not be copied to another thread (a function, say) fails here, and is told like any error.
    answer({ kind: 'result', result: await resolve(ours, theirs, context) });
  } catch (error) {
    answer({ kind: 'failed', error: `threw: ${textOf(error)}` });
  }
}

load().then(
  (resolve) => {
    port.on('message', (question: WorkerQuestion) => void ask(resolve, question));
    answer({ kind: 'loaded' });
  },
  (error: unknown) => answer({ kind: 'failed', error: `can not be loaded: ${textOf(error)}` }),
);
