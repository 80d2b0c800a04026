/**
 * Reads a protobuf message whose fields are asked for in ascending order; a field that is not next is not there. Pure but for its place.
 *
 * What is damaged, or written in a way that nobody here writes, makes `leave` and `finished` false in the end: whoever asks has to look at those before he
 * believes anything.
 */
import { isUtf8 } from 'node:buffer';

const halves = new DataView(new ArrayBuffer(8));

export class ProtoCursor {
  readonly #bytes: Buffer;
  readonly #ends: number[] = [];
  #end: number;
  #at = 0;
  /** Of the varint that was read last. */
  #low = 0;
  #high = 0;
  #damaged = false;

  constructor(bytes: Buffer) {
    this.#bytes = bytes;
    this.#end = bytes.length;
  }

  /** All is read, and nothing was wrong. */
  get finished(): boolean {
    return !this.#damaged && this.#at === this.#end && this.#ends.length === 0;
  }

  /** Into a message, when it is next. */
  enter(tag: number): boolean {
    if (!this.#is(tag)) return false;
    const end = this.#length();
    this.#ends.push(this.#end);
    this.#end = end;
    return true;
  }

  /** Out of the message that was entered last. False when something in it was not read. */
  leave(): boolean {
    const whole = !this.#damaged && this.#at === this.#end;
    this.#end = this.#ends.pop()!;
    return whole;
  }

  /** Whether these bytes come next; then they are read. */
  follows(expected: Buffer): boolean {
    if (this.#at + expected.length > this.#end) return false;
    for (let at = 0; at < expected.length; at += 1)
      if (this.#bytes[this.#at + at] !== expected[at]) return false;
    this.#at += expected.length;
    return true;
  }

  uint32(tag: number): number {
    if (!this.#is(tag)) return 0;
    this.#varint();
    if (this.#high !== 0) this.#damaged = true;
    return this.#low >>> 0;
  }

  sint32(tag: number): number {
    const value = this.uint32(tag);
    return (value >>> 1) ^ -(value & 1);
  }

  /** Of 64 bits, below 2^53. */
  number(tag: number): number {
    if (!this.#is(tag)) return 0;
    this.#varint();
    return this.#high * 2 ** 32 + (this.#low >>> 0);
  }

  signed(tag: number): bigint {
    return this.#both(tag) ? halves.getBigInt64(0) : 0n;
  }

  unsigned(tag: number): bigint {
    return this.#both(tag) ? halves.getBigUint64(0) : 0n;
  }

  /** Null when it is not there. */
  bytes(tag: number): Buffer | null {
    if (!this.#is(tag)) return null;
    const end = this.#length();
    const start = this.#at;
    this.#at = end;
    return this.#bytes.subarray(start, end);
  }

  text(tag: number): string | null {
    if (!this.#is(tag)) return null;
    const end = this.#length();
    const start = this.#at;
    this.#at = end;
    for (let at = start; at < end; at += 1) if (this.#bytes[at]! > 127) return this.#wideText(start, end);
    return this.#bytes.toString('latin1', start, end);
  }

  #wideText(start: number, end: number): string {
    if (!isUtf8(this.#bytes.subarray(start, end))) this.#damaged = true;
    return this.#bytes.toString('utf8', start, end);
  }

  /** A text that nobody wants. */
  skipText(tag: number): void {
    if (this.#is(tag)) {
      const end = this.#length();
      for (let at = this.#at; at < end; at += 1) if (this.#bytes[at]! > 127) this.#damaged = true;
      this.#at = end;
    }
  }

  /** What is left of the message that was entered last. Null when something was wrong before. */
  rest(): Buffer | null {
    if (this.#damaged) return null;
    const start = this.#at;
    this.#at = this.#end;
    return this.#bytes.subarray(start, this.#end);
  }

  #is(tag: number): boolean {
    if (this.#at >= this.#end || this.#bytes[this.#at] !== tag) return false;
    this.#at += 1;
    return true;
  }

  /** Where what follows ends. */
  #length(): number {
    this.#varint();
    const end = this.#at + (this.#low >>> 0);
    if (this.#high === 0 && end <= this.#end) return end;
    this.#damaged = true;
    return this.#end;
  }

  #both(tag: number): boolean {
    if (!this.#is(tag)) return false;
    this.#varint();
    halves.setInt32(0, this.#high);
    halves.setInt32(4, this.#low);
    return true;
  }

  #varint(): void {
    let low = 0;
    let high = 0;
    for (let shift = 0; shift < 64; shift += 7) {
      if (this.#at >= this.#end) break;
      const byte = this.#bytes[this.#at++]!;
      const bits = byte & 127;
      if (shift < 28) low |= bits << shift;
      else if (shift === 28) {
        low |= bits << 28;
        high = bits >>> 4;
      } else high |= bits << (shift - 32);
      if (byte < 128) {
        this.#low = low;
        this.#high = high;
        return;
      }
    }
    this.#damaged = true;
    this.#low = 0;
    this.#high = 0;
  }
}
