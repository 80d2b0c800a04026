/**
 * A limit on bytes by time. Whoever has bytes spends them at once, also more than there are: what was overdrawn is waited for before the next ones. So
 * messages of any size go through, and over time no more than the rate and one burst. Pure: the time is given.
 */

/** How much of a quiet time may be made up for, as time at the rate. */
const burstMs = 250;

export class TokenBucket {
  #perMs: number | null;
  /** Below zero: overdrawn. */
  #level = 0;
  #atMs: number;

  /** `bytesPerSecond` null = no limit. */
  constructor(bytesPerSecond: number | null, nowMs: number) {
    this.#perMs = bytesPerSecond === null ? null : bytesPerSecond / 1000;
    this.#atMs = nowMs;
  }

  get bytesPerSecond(): number | null {
    return this.#perMs === null ? null : this.#perMs * 1000;
  }

  /** What was overdrawn stays so, and is paid back at the new rate. */
  limit(bytesPerSecond: number | null, nowMs: number): void {
    this.#refill(nowMs);
    this.#perMs = bytesPerSecond === null ? null : bytesPerSecond / 1000;
    if (this.#perMs === null) this.#level = 0;
  }

  spend(bytes: number, nowMs: number): void {
    this.#refill(nowMs);
    if (this.#perMs !== null) this.#level -= bytes;
  }

  /** How long to wait before more may be spent. */
  waitMs(nowMs: number): number {
    this.#refill(nowMs);
    return this.#perMs === null || this.#level >= 0 ? 0 : -this.#level / this.#perMs;
  }

  #refill(nowMs: number): void {
    if (this.#perMs !== null)
      this.#level = Math.min(
        burstMs * this.#perMs,
        this.#level + Math.max(0, nowMs - this.#atMs) * this.#perMs,
      );
    this.#atMs = nowMs;
  }
}
