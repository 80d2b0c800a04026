/** Keeps one loop running: starts it again with a growing pause when it breaks, ends it when the process stops. */
import { setTimeout as sleep } from 'node:timers/promises';
import { isPgquorumError } from '#core/errors/error.ts';
import type { ClusterNode } from '#core/topology/found.pg.ts';
import type { Replication } from './tokens.ts';

const pauseMinMs = 100;
const pauseMaxMs = 5000;
/** A loop that ran this long before it broke starts again at once. */
const healthyMs = 30_000;

/** Runs until the signal aborts or something breaks; calls `healthy` once its work really goes on. */
export type Run = (signal: AbortSignal, healthy: () => void) => Promise<void>;

export class Loop {
  readonly #abort = new AbortController();
  readonly #done: Promise<void>;

  constructor(replication: Replication, name: string, run: Run) {
    this.#done = this.#keep(replication, name, run);
  }

  async #keep({ logger, metrics }: Replication, name: string, run: Run): Promise<void> {
    const { signal } = this.#abort;
    let pauseMs = pauseMinMs;
    let told = '';
    metrics.running.set({ loop: name }, 0);
    while (!signal.aborted) {
      const started = performance.now();
      try {
        await run(signal, () => metrics.running.set({ loop: name }, 1));
      } catch (error) {
        if (signal.aborted) break;
        metrics.restarts.inc({ loop: name });
        if (performance.now() - started > healthyMs) {
          pauseMs = pauseMinMs;
          told = '';
        }
        // The same trouble again and again is told once, then at debug level.
        const message = error instanceof Error ? error.message : String(error);
        const waiting = isPgquorumError(error) && error.entry.retry;
        logger[message === told ? 'debug' : waiting ? 'warn' : 'error'](
          { loop: name, err: error, retryInMs: pauseMs },
          waiting ? `${name} waits: ${error.detail}` : `${name} broke and is started again`,
        );
        told = message;
        metrics.running.set({ loop: name }, 0);
        await sleep(pauseMs, undefined, { signal }).catch(() => undefined); // the loop's condition sees the abort
        pauseMs = Math.min(pauseMaxMs, pauseMs * 2);
      }
    }
    metrics.running.set({ loop: name }, 0);
  }

  async stop(): Promise<void> {
    this.#abort.abort();
    await this.#done;
  }
}

/** A loop for each node that this process serves. */
export const loopEach = (
  replication: Replication,
  name: string,
  run: (node: ClusterNode, ...args: Parameters<Run>) => Promise<void>,
): Loop[] =>
  replication.served.map(
    (node) => new Loop(replication, `${name} ${node.name}`, (signal, healthy) => run(node, signal, healthy)),
  );
