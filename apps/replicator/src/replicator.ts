/** The replicator as one thing that begins anew, with all its loops, whenever a node goes on under another number. */
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
  #beginning: Promise<void> | null = null;
  readonly #stopped = new AbortController();

  constructor(settings: Settings, logger: Logger) {
    this.#settings = settings;
    this.#logger = logger;
  }

  async start(): Promise<void> {
    this.#app = await startReplicator(this.#settings, this.#logger, { renumbered: () => this.#begin() });
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
    this.#logger.info('a node goes on under another number: all loops begin anew');
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
