/**
 * Kafka's record batches, version 2 of the message format: written backwards into one buffer, read in place. Pure.
 * https://kafka.apache.org/documentation/#recordbatch
 */
import { BackwardBytes } from './backward-bytes.ts';
import { crc32c } from './crc32c.ts';

/** What a record holds. Keys and headers are text. */
export interface RecordContent {
  readonly key: string;
  readonly headers: Readonly<Record<string, string>>;
  /** Further ones, after those. */
  readonly shared?: SharedHeaders | undefined;
  writeValue(into: BackwardBytes): void;
}

/** Headers that many records have in common, encoded once. */
export class SharedHeaders {
  readonly values: Readonly<Record<string, string>>;
  readonly count: number;
  readonly bytes: Buffer;

  constructor(values: Readonly<Record<string, string>>, scratch = new BackwardBytes(256)) {
    this.values = values;
    scratch.rewind();
    this.count = writeHeaders(values, scratch);
    this.bytes = Buffer.from(scratch.view());
  }
}

/** Returns how many they are. */
function writeHeaders(values: Readonly<Record<string, string>>, into: BackwardBytes): number {
  const names = Object.keys(values);
  for (let header = names.length - 1; header >= 0; header -= 1) {
    writeText(into, values[names[header]!]!);
    writeText(into, names[header]!);
  }
  return names.length;
}

/** Under which name and number a batch is sent: Kafka drops it when it has it already. */
export interface Stamp {
  readonly producerId: bigint;
  readonly epoch: number;
  readonly sequence: number;
}

/** By Kafka's numbers, from 0. */
export const codecs = ['none', 'gzip', 'snappy', 'lz4', 'zstd'] as const;
export type Codec = (typeof codecs)[number];
const codecMask = 7;
const controlFlag = 0x20;
const magic = 2;

/** Offsets of fields in a batch. */
const at = {
  length: 8,
  magic: 16,
  crc: 17,
  attributes: 21,
  lastOffsetDelta: 23,
  producerId: 43,
  epoch: 51,
  sequence: 53,
  count: 57,
  records: 61,
} as const;
/** What the length of a batch does not count: its first offset and the length itself. */
const uncounted = 12;

/** Writes `count` records; `content` is asked for the last one first. */
export function writeRecords(
  into: BackwardBytes,
  count: number,
  content: (index: number) => RecordContent,
): void {
  for (let index = count - 1; index >= 0; index -= 1) writeRecord(into, index, content(index));
}

function writeRecord(into: BackwardBytes, offsetDelta: number, content: RecordContent): void {
  const before = into.length;
  const { shared } = content;
  if (shared !== undefined) into.bytes(shared.bytes);
  into.zigzag(writeHeaders(content.headers, into) + (shared?.count ?? 0));
  const beforeValue = into.length;
  content.writeValue(into);
  into.zigzag(into.length - beforeValue);
  writeText(into, content.key);
  into.zigzag(offsetDelta);
  into.zigzag(0); // milliseconds since the batch's time
  into.uint8(0); // attributes, of which there are none
  into.zigzag(into.length - before);
}

function writeText(into: BackwardBytes, text: string): void {
  const before = into.length;
  into.text(text);
  into.zigzag(into.length - before);
}

/** Writes the header of a batch before its records, which are the last `recordBytes` bytes. It is not valid before it is stamped. */
export function writeBatchHeader(
  into: BackwardBytes,
  batch: {
    readonly count: number;
    readonly recordBytes: number;
    readonly timeMs: number;
    readonly codec: Codec;
  },
): void {
  into.int32(batch.count);
  into.int32(-1); // sequence
  into.int16(-1); // epoch
  into.int64(-1n); // producer
  into.int64(BigInt(batch.timeMs)); // of the newest record
  into.int64(BigInt(batch.timeMs)); // of the first record
  into.int32(batch.count - 1);
  into.int16(codecs.indexOf(batch.codec));
  into.int32(0); // checksum
  into.uint8(magic);
  into.int32(-1); // epoch of the leader, which the broker fills in
  into.int32(batch.recordBytes + at.records - uncounted);
  into.int64(0n); // first offset, which the broker fills in
}

/** Makes the batch ready to be sent. May be done again. */
export function stampBatch(batch: Buffer, { producerId, epoch, sequence }: Stamp): void {
  batch.writeBigInt64BE(producerId, at.producerId);
  batch.writeInt16BE(epoch, at.epoch);
  batch.writeInt32BE(sequence, at.sequence);
  batch.writeUInt32BE(crc32c(batch.subarray(at.attributes)), at.crc);
}

/** A batch as it is fetched; `records` are still compressed. */
export interface FetchedBatch {
  readonly firstOffset: bigint;
  readonly lastOffset: bigint;
  readonly count: number;
  readonly codec: Codec;
  /** Written by Kafka itself, for its transactions. */
  readonly isControl: boolean;
  readonly records: Buffer;
}

/** The whole batches at the beginning: a fetch ends within one. Throws for what is damaged and for what is not of this version. */
export function readBatches(bytes: Buffer): FetchedBatch[] {
  const batches: FetchedBatch[] = [];
  for (let start = 0; start + at.records <= bytes.length;) {
    const end = start + uncounted + bytes.readInt32BE(start + at.length);
    if (end > bytes.length) break;
    batches.push(readBatch(bytes.subarray(start, end)));
    start = end;
  }
  return batches;
}

function readBatch(batch: Buffer): FetchedBatch {
  if (batch.length < at.records || batch[at.magic] !== magic)
    throw new Error(`a batch of messages has the format ${batch[at.magic] ?? 'none'} instead of ${magic}`);
  if (crc32c(batch.subarray(at.attributes)) !== batch.readUInt32BE(at.crc))
    throw new Error('a batch of messages is damaged: its checksum is wrong');
  const attributes = batch.readInt16BE(at.attributes);
  const codec = codecs[attributes & codecMask];
  if (codec === undefined)
    throw new Error(`messages are compressed by codec ${attributes & codecMask}, which is not known`);
  const firstOffset = batch.readBigInt64BE(0);
  return {
    firstOffset,
    lastOffset: firstOffset + BigInt(batch.readInt32BE(at.lastOffsetDelta)),
    count: batch.readInt32BE(at.count),
    codec,
    isControl: (attributes & controlFlag) !== 0,
    records: batch.subarray(at.records),
  };
}

export interface ReadRecord {
  readonly offset: bigint;
  readonly value: Buffer | null;
  /** Of the header that was asked for; undefined when there is none or more than one. */
  readonly header: string | undefined;
}

/** Reads records that are not compressed, each with the one header of this name. */
export function readRecords(
  { firstOffset, count, records }: Pick<FetchedBatch, 'firstOffset' | 'count' | 'records'>,
  header: Buffer,
): ReadRecord[] {
  const reader = new RecordReader(records, header);
  return Array.from({ length: count }, () => reader.next(firstOffset));
}

class RecordReader {
  readonly #bytes: Buffer;
  readonly #wanted: Buffer;
  #at = 0;
  /** Headers repeat from record to record: their text is made once. */
  #text = '';
  #textBytes: Buffer = Buffer.alloc(0);

  constructor(bytes: Buffer, wanted: Buffer) {
    this.#bytes = bytes;
    this.#wanted = wanted;
  }

  next(firstOffset: bigint): ReadRecord {
    const length = this.#zigzag();
    const end = this.#at + length;
    if (length < 0 || end > this.#bytes.length) throw new Error('a message is damaged: it ends too late');
    this.#at += 1; // attributes
    this.#skipVarint(); // time
    const offset = firstOffset + BigInt(this.#zigzag());
    this.#skip(this.#zigzag()); // key
    const value = this.#slice(this.#zigzag());
    const header = this.#header();
    if (this.#at !== end) throw new Error('a message is damaged: its parts are not as long as it is');
    return { offset, value, header };
  }

  /** Nothing is sliced out: a message has half a dozen headers, and one is wanted. */
  #header(): string | undefined {
    let found: string | undefined;
    let times = 0;
    for (let left = this.#zigzag(); left > 0; left -= 1) {
      const nameBytes = this.#zigzag();
      const name = this.#at;
      this.#skip(nameBytes);
      const valueBytes = this.#zigzag();
      const value = this.#at;
      this.#skip(valueBytes);
      if (!this.#is(this.#wanted, name, nameBytes)) continue;
      times += 1;
      found = valueBytes < 0 ? undefined : this.#textOf(value, valueBytes);
    }
    return times === 1 ? found : undefined;
  }

  #is(wanted: Buffer, start: number, length: number): boolean {
    if (wanted.length !== length) return false;
    for (let at = 0; at < length; at += 1) if (this.#bytes[start + at] !== wanted[at]) return false;
    return true;
  }

  #textOf(start: number, length: number): string {
    if (!this.#is(this.#textBytes, start, length)) {
      this.#textBytes = this.#bytes.subarray(start, start + length);
      this.#text = this.#textBytes.toString('utf8');
    }
    return this.#text;
  }

  #skip(length: number): void {
    if (length > 0) this.#at += length;
  }

  /** Null for a length of -1. */
  #slice(length: number): Buffer | null {
    if (length < 0) return null;
    this.#at += length;
    return this.#bytes.subarray(this.#at - length, this.#at);
  }

  #zigzag(): number {
    let value = 0;
    for (let shift = 0; ; shift += 7) {
      const byte = this.#bytes[this.#at++];
      if (byte === undefined || shift > 28) throw new Error('a message is damaged: a number does not end');
      value |= (byte & 127) << shift;
      if (byte < 128) return (value >>> 1) ^ -(value & 1);
    }
  }

  #skipVarint(): void {
    while ((this.#bytes[this.#at++] ?? 0) >= 128);
  }
}
