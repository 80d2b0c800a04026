/**
 * Bytes written from the end of a buffer towards its beginning: what a length counts is there by the time the length is written, so that nested
 * messages need neither a first pass nor a copy. Callers write the last part first. Pure but for its own state.
 */

/** Elements of so many bytes each, to be written with each element's bytes reversed: Postgres's order to that of consumers, without a copy between. */
export class SwappedElements {
  readonly bytes: Buffer;
  readonly elementBytes: 2 | 4;

  constructor(bytes: Buffer, elementBytes: 2 | 4) {
    this.bytes = bytes;
    this.elementBytes = elementBytes;
  }
}

export class BackwardBytes {
  #buffer: Buffer;
  /** Where the written part begins. */
  #at: number;

  constructor(capacity: number) {
    this.#buffer = Buffer.allocUnsafeSlow(capacity);
    this.#at = capacity;
  }

  get capacity(): number {
    return this.#buffer.length;
  }

  /** How many bytes are written: positions are counted from the end, since the buffer may grow. */
  get length(): number {
    return this.#buffer.length - this.#at;
  }

  /** Forgets all but the first `length` bytes that were written; the memory is used again. */
  rewind(length = 0): void {
    this.#at = this.#buffer.length - length;
  }

  /** What was written while the length grew from `after` to `upTo`. Valid until the next write or `rewind`. */
  view(after = 0, upTo = this.length): Buffer {
    return this.#buffer.subarray(this.#buffer.length - upTo, this.#buffer.length - after);
  }

  #room(bytes: number): void {
    if (bytes <= this.#at) return;
    const written = this.length;
    const grown = Buffer.allocUnsafeSlow(Math.max(this.#buffer.length * 2, written + bytes));
    this.#buffer.copy(grown, grown.length - written, this.#at);
    this.#at = grown.length - written;
    this.#buffer = grown;
  }

  #take(bytes: number): number {
    if (bytes > this.#at) this.#room(bytes);
    this.#at -= bytes;
    return this.#at;
  }

  uint8(value: number): void {
    const at = this.#take(1); // first: it may replace the buffer
    this.#buffer[at] = value;
  }

  int16(value: number): void {
    const at = this.#take(2);
    this.#buffer.writeInt16BE(value, at);
  }

  int32(value: number): void {
    const at = this.#take(4);
    this.#buffer.writeInt32BE(value, at);
  }

  int64(value: bigint): void {
    const at = this.#take(8);
    this.#buffer.writeBigInt64BE(value, at);
  }

  doubleLE(value: number): void {
    const at = this.#take(8);
    this.#buffer.writeDoubleLE(value, at);
  }

  /** An unsigned variable-length integer of at most 53 bits. */
  varint(value: number): void {
    if (value < 128) return this.uint8(value);
    if (value >= 2 ** 32) return this.varint64((value % 2 ** 32) | 0, Math.floor(value / 2 ** 32));
    let at = this.#take(value < 1 << 14 ? 2 : value < 1 << 21 ? 3 : value < 1 << 28 ? 4 : 5);
    const buffer = this.#buffer;
    for (; value >= 128; value >>>= 7) buffer[at++] = (value & 127) | 128;
    buffer[at] = value;
  }

  /** An unsigned variable-length integer of 64 bits, in two halves. */
  varint64(low: number, high: number): void {
    low >>>= 0;
    high >>>= 0;
    if (high === 0) return low < 128 ? this.uint8(low) : this.varint(low);
    const bits = 64 - Math.clz32(high);
    let at = this.#take(Math.ceil(bits / 7));
    const buffer = this.#buffer;
    while (high !== 0 || low >= 128) {
      buffer[at++] = (low & 127) | 128;
      low = ((low >>> 7) | (high << 25)) >>> 0;
      high >>>= 7;
    }
    buffer[at] = low;
  }

  /** A signed variable-length integer of 32 bits: small ones are short, whatever their sign. */
  zigzag(value: number): void {
    this.varint(((value << 1) ^ (value >> 31)) >>> 0);
  }

  bytes(value: Uint8Array): void {
    const at = this.#take(value.length);
    this.#buffer.set(value, at);
  }

  swapped({ bytes, elementBytes }: SwappedElements): void {
    const at = this.#take(bytes.length);
    this.#buffer.set(bytes, at);
    const written = this.#buffer.subarray(at, at + bytes.length);
    if (elementBytes === 4) written.swap32();
    else written.swap16();
  }

  /** In UTF-8. */
  text(value: string): void {
    if (value.length <= shortText && this.#ascii(value)) return;
    const length = Buffer.byteLength(value, 'utf8');
    const at = this.#take(length);
    this.#buffer.write(value, at, length, 'utf8');
  }

  /** Most texts are short and plain: a loop over them is faster than a call out of JavaScript. */
  #ascii(value: string): boolean {
    const at = this.#take(value.length);
    const buffer = this.#buffer;
    for (let index = 0; index < value.length; index += 1) {
      const code = value.charCodeAt(index);
      if (code > 127) {
        this.#at += value.length;
        return false;
      }
      buffer[at + index] = code;
    }
    return true;
  }
}

const shortText = 48;
