/** Reads the answer of a broker from its beginning to its end. Pure but for its own place. */
export class AnswerReader {
  readonly #bytes: Buffer;
  #at = 0;

  constructor(bytes: Buffer) {
    this.#bytes = bytes;
  }

  int16(): number {
    this.#at += 2;
    return this.#bytes.readInt16BE(this.#at - 2);
  }

  int32(): number {
    this.#at += 4;
    return this.#bytes.readInt32BE(this.#at - 4);
  }

  /** Negative lengths mean that there is nothing. */
  skip(length: number): void {
    this.#at += Math.max(length, 0);
  }

  slice(length: number): Buffer {
    this.skip(length);
    if (this.#at > this.#bytes.length) throw new Error('the answer of a broker is damaged: it ends too soon');
    return this.#bytes.subarray(this.#at - Math.max(length, 0), this.#at);
  }
}
