/**
 * What has been fetched and not been consumed yet, within a bound of bytes. Pure: one side puts and waits for room, the other takes and
 * waits for something.
 */
export class FetchQueue<T> {
  readonly #bytesMax: number;
  readonly #entries: { readonly value: T; readonly bytes: number }[] = [];
  #bytes = 0;
  #error: Error | null = null;
  #ended = false;
  #wakeTaker: (() => void) | null = null;
  readonly #wakePutters = new Set<() => void>();

  constructor(bytesMax: number) {
    this.#bytesMax = bytesMax;
  }

  get bytes(): number {
    return this.#bytes;
  }

  /** Never waits: ask for room first. */
  put(value: T, bytes: number): void {
    if (this.#ended) return;
    this.#entries.push({ value, bytes });
    this.#bytes += bytes;
    this.#wakeTaker?.();
  }

  /** Resolves when less than the bound is held, or when the queue has ended. */
  async room(): Promise<void> {
    while (!this.#ended && this.#bytes >= this.#bytesMax)
      await new Promise<void>((resolve) => this.#wakePutters.add(resolve));
  }

  /** The next value and what gives its room back; null when the queue has ended. After `fail`: throws, once all that came before was taken. */
  async take(): Promise<{ readonly value: T; release(): void } | null> {
    while (!this.#ended) {
      const entry = this.#entries.shift();
      if (entry !== undefined) return { value: entry.value, release: () => this.#release(entry.bytes) };
      if (this.#error !== null) throw this.#error;
      await new Promise<void>((resolve) => (this.#wakeTaker = resolve));
    }
    return null;
  }

  fail(error: Error): void {
    this.#error ??= error;
    this.#wakeTaker?.();
  }

  /** At once, whatever is still in it. */
  end(): void {
    this.#ended = true;
    this.#entries.length = 0;
    this.#wakeTaker?.();
    this.#wake();
  }

  #release(bytes: number): void {
    this.#bytes -= bytes;
    this.#wake();
  }

  #wake(): void {
    for (const resolve of this.#wakePutters) resolve();
    this.#wakePutters.clear();
  }
}
