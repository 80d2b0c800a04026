/** The replicator as one thing that begins anew, with all its loops, whenever a node comes, goes, or goes on under another number. */
import { setTimeout as sleep } from 'node:timers/promises';
import type { INestApplicationContext } from '@nestjs/common';
import type { Settings } from '#core/config/settings.ts';
import type { Logger } from '#core/observability/logger.process.ts';
import { startReplicator } from './app.module.ts';

const againMs = 1000;

export class Replicator {
  readonly #settings: Settings;
  readonly #logger: Logger;
  #app: INestApplicationContext | null = null;
  #starting: Promise<unknown> = Promise.resolve();
  #beginning: Promise<void> | null = null;
  readonly #stopped = new AbortController();

  constructor(settings: Settings, logger: Logger) {
    this.#settings = settings;
    this.#logger = logger;
  }

  async start(): Promise<void> {
    const starting = startReplicator(this.#settings, this.#logger, { moved: () => this.#begin() });
    this.#starting = starting;
    this.#app = await starting;
  }

  async stop(): Promise<void> {
    this.#stopped.abort();
    await this.#beginning;
    await this.#app?.close();
  }

  #begin(): void {
    if (this.#stopped.signal.aborted) return;
    this.#beginning ??= this.#beginAnew().finally(() => {
      this.#beginning = null;
    });
  }

  async #beginAnew(): Promise<void> {
    const { signal } = this.#stopped;
    this.#logger.info('the nodes of the cluster are others, or under other numbers: all loops begin anew');
    // It may be found out while the loops are still being started.
    await this.#starting.catch(() => undefined); // whoever started it was told
    const before = this.#app;
    this.#app = null;
    await before?.close();
    while (!signal.aborted && this.#app === null) {
      try {
        await this.start();
      } catch (error) {
        this.#logger.warn({ err: error, retryInMs: againMs }, 'the loops could not begin anew');
        await sleep(againMs, undefined, { signal }).catch(() => undefined); // the loop's condition sees the abort
      }
    }
  }
}
