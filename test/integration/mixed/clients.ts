/** Clients who do one thing after the other until it is enough, or one of them fails. */
import { setTimeout as sleep } from 'node:timers/promises';

export class Clients {
  readonly #random: () => number;
  readonly #pauseMs: number;
  readonly #over = new AbortController();
  readonly #loops: Promise<void>[] = [];
  #failure: { readonly cause: unknown } | null = null;

  constructor({ random, pauseMs }: { readonly random: () => number; readonly pauseMs: number }) {
    this.#random = random;
    this.#pauseMs = pauseMs;
  }

  /** Aborted when it is enough. */
  get signal(): AbortSignal {
    return this.#over.signal;
  }

  each(count: number, work: () => Promise<unknown>): void {
    for (let at = 0; at < count; at += 1) this.#loops.push(this.#loop(work));
  }

  /** Until `work` is done; throws what failed first. */
  async during(work: Promise<unknown>): Promise<void> {
    await work.catch((cause: unknown) => this.#fail(cause));
    this.#over.abort();
    await Promise.all(this.#loops);
    if (this.#failure !== null) throw this.#failure.cause;
  }

  async #loop(work: () => Promise<unknown>): Promise<void> {
    try {
      for (; !this.signal.aborted; await sleep(this.#pauseMs * (0.5 + this.#random()))) await work();
    } catch (cause) {
      this.#fail(cause);
    }
  }

  #fail(cause: unknown): void {
    this.#failure ??= { cause };
    this.#over.abort();
  }
}

/** What is done only while it is open; whoever closes it waits for what is under way. */
export class Gate {
  #isOpen = false;
  #passing: Promise<unknown> = Promise.resolve();

  async pass(work: () => Promise<unknown>): Promise<void> {
    if (!this.#isOpen) return;
    const passing = work();
    this.#passing = passing.catch(() => undefined); // who passes is told
    await passing;
  }

  open(): void {
    this.#isOpen = true;
  }

  async close(): Promise<void> {
    this.#isOpen = false;
    await this.#passing;
  }
}
