/** How often each caller may call: a bucket of tokens each, which fills at a rate up to a burst; a call takes one. Pure: the time is given. */

interface Bucket {
  tokens: number;
  atMs: number;
}

/** More callers than these are not remembered: whoever has not called for the longest time begins anew. */
const callersMax = 10_000;

export class CallRates {
  readonly #perMs: number;
  readonly #burst: number;
  /** Who called last stands last. */
  readonly #buckets = new Map<string, Bucket>();

  constructor({ perS, burst }: { readonly perS: number; readonly burst: number }) {
    this.#perMs = perS / 1000;
    this.#burst = burst;
  }

  /** 0 when the caller may go on, else how long until it may; a call that was refused costs nothing. */
  take(caller: string, nowMs: number): number {
    const { tokens, atMs } = this.#buckets.get(caller) ?? { tokens: this.#burst, atMs: nowMs };
    const filled = Math.min(this.#burst, tokens + Math.max(0, nowMs - atMs) * this.#perMs);
    const left = filled >= 1 ? filled - 1 : filled;
    this.#buckets.delete(caller);
    this.#buckets.set(caller, { tokens: left, atMs: nowMs });
    if (this.#buckets.size > callersMax) this.#buckets.delete(this.#buckets.keys().next().value!);
    return filled >= 1 ? 0 : Math.ceil((1 - filled) / this.#perMs);
  }
}
