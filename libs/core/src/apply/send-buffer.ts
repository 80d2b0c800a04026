/** Memory for the large messages of a session, used again once the socket has taken what was in it: new pages are dear. */

/** Larger buffers are not kept: a batch of so many bytes is rare. */
const keptBytesMax = 4 * 1024 * 1024;
const grainBytes = 256 * 1024;
/** Smaller ones cost little. */
const keptBytesMin = 64 * 1024;

/** One large message of a session is on its way at a time, so one buffer is enough. */
export class SendBuffer {
  #spare: Buffer | null = null;

  take(bytes: number): Buffer {
    if (bytes < keptBytesMin) return Buffer.allocUnsafe(bytes);
    const spare = this.#spare;
    if (spare !== null && spare.length >= bytes) {
      this.#spare = null;
      return spare;
    }
    return Buffer.allocUnsafeSlow(Math.ceil(bytes / grainBytes) * grainBytes);
  }

  /** Only when nobody reads from it any more. */
  give(buffer: Buffer): void {
    if (buffer.length < keptBytesMin) return;
    if (buffer.length <= keptBytesMax && buffer.length >= (this.#spare?.length ?? 0)) this.#spare = buffer;
  }
}
