/** How fast the edges into nodes may read: each has a bucket of its own and one that it shares with all edges into the same node. Pure: the clock is given. */
import type { Limits } from './limits.ts';
import { TokenBucket } from './token-bucket.ts';

/** What a reader of a change log asks. */
export interface Pace {
  /** Counts what was read. */
  spend(bytes: number): void;
  /** How long to wait before more is read. The limit may change meanwhile: ask again after a part of it. */
  waitMs(): number;
  /** The most to ask for at once, so that what is read comes evenly; null without a limit. */
  readonly askBytesMax: number | null;
}

/** What is asked for at once takes so long. */
const askMs = 250;

export class EdgePace implements Pace {
  readonly #buckets: readonly TokenBucket[];
  readonly #clock: () => number;
  #spent = 0;
  #heldMs = 0;
  #heldUntilMs = 0;

  constructor(buckets: readonly TokenBucket[], clock: () => number) {
    this.#buckets = buckets;
    this.#clock = clock;
  }

  /** Bytes read so far. */
  get spent(): number {
    return this.#spent;
  }

  /** How long it was held back so far, as far as that is over. */
  get heldMs(): number {
    return this.#heldMs - Math.max(0, this.#heldUntilMs - this.#clock());
  }

  get askBytesMax(): number | null {
    const rates = this.#buckets.flatMap((bucket) => bucket.bytesPerSecond ?? []);
    return rates.length === 0 ? null : (Math.min(...rates) * askMs) / 1000;
  }

  spend(bytes: number): void {
    const nowMs = this.#clock();
    this.#spent += bytes;
    for (const bucket of this.#buckets) bucket.spend(bytes, nowMs);
  }

  waitMs(): number {
    const nowMs = this.#clock();
    const waitMs = Math.max(0, ...this.#buckets.map((bucket) => bucket.waitMs(nowMs)));
    const untilMs = nowMs + waitMs;
    // A limit that was raised lets go of what was promised.
    this.#heldMs += untilMs - Math.max(nowMs, this.#heldUntilMs);
    this.#heldUntilMs = untilMs;
    return waitMs;
  }
}

export interface NamedPace {
  readonly origin: number;
  readonly target: number;
  readonly pace: EdgePace;
}

export class Paces {
  readonly #clock: () => number;
  #limits: Limits;
  readonly #edges = new Map<string, NamedPace & { readonly own: TokenBucket }>();
  readonly #targets = new Map<number, TokenBucket>();

  constructor(limits: Limits, clock: () => number) {
    this.#limits = limits;
    this.#clock = clock;
  }

  get all(): readonly NamedPace[] {
    return [...this.#edges.values()];
  }

  get limits(): Limits {
    return this.#limits;
  }

  of(origin: number, target: number): EdgePace {
    const key = `${origin} ${target}`;
    const found = this.#edges.get(key);
    if (found !== undefined) return found.pace;
    const own = new TokenBucket(this.#limits.bytesPerSecond, this.#clock());
    const pace = new EdgePace([own, this.#totalOf(target)], this.#clock);
    this.#edges.set(key, { origin, target, pace, own });
    return pace;
  }

  limit(limits: Limits): void {
    this.#limits = limits;
    for (const { own } of this.#edges.values()) own.limit(limits.bytesPerSecond, this.#clock());
    for (const total of this.#targets.values()) total.limit(limits.totalBytesPerSecond, this.#clock());
  }

  #totalOf(target: number): TokenBucket {
    const found =
      this.#targets.get(target) ?? new TokenBucket(this.#limits.totalBytesPerSecond, this.#clock());
    this.#targets.set(target, found);
    return found;
  }
}
