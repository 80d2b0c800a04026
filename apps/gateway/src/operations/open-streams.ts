/** The streams of one kind that a gateway serves at once: a bounded number of them, each until its client is gone or the gateway ends. */
import { PgquorumError } from '#core/errors/error.ts';

const streamsMax = 100;

export class OpenStreams {
  readonly #of: string;
  readonly #end = new AbortController();
  #open = 0;

  /** `of` is for the message when there are too many. */
  constructor(of: 'changes' | 'events') {
    this.#of = of;
  }

  /** Makes a stream; its signal aborts when the client is gone or the gateway ends, and then its place is free again. */
  async open<T>(gone: AbortSignal, make: (signal: AbortSignal) => Promise<T>): Promise<T> {
    if (this.#open >= streamsMax)
      throw new PgquorumError('overloaded', `${streamsMax} streams of ${this.#of} are open`);
    const signal = AbortSignal.any([gone, this.#end.signal]);
    this.#open += 1;
    let released = false;
    const release = (): void => {
      if (!released) this.#open -= 1;
      released = true;
    };
    signal.addEventListener('abort', release, { once: true });
    if (signal.aborted) release();
    try {
      return await make(signal);
    } catch (cause) {
      release();
      throw cause;
    }
  }

  end(): void {
    this.#end.abort();
  }
}
