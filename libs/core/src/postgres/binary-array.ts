/**
 * One-dimensional arrays in Postgres's binary format: one parameter carries a column of a whole batch, so one prepared statement serves any
 * batch size and vectors are never turned into text (which is five times slower). Pure.
 */
const headerBytes = 20;
/** An empty array has no dimensions, as Postgres itself sends it. */
const emptyBytes = 12;

function header(target: Buffer, start: number, elementOid: number, count: number, hasNull: boolean): number {
  target.writeInt32BE(count === 0 ? 0 : 1, start); // dimensions
  target.writeInt32BE(hasNull ? 1 : 0, start + 4);
  target.writeUInt32BE(elementOid, start + 8);
  if (count === 0) return start + emptyBytes;
  target.writeInt32BE(count, start + 12);
  return target.writeInt32BE(1, start + 16); // arrays begin at 1
}

/** A column of a batch: elements that are in the binary format of their type already. */
export interface ColumnArray {
  readonly elementOid: number;
  readonly values: readonly (Buffer | null)[];
}

export function arrayBytes({ values }: ColumnArray): number {
  if (values.length === 0) return emptyBytes;
  let size = headerBytes + 4 * values.length;
  for (const value of values) if (value !== null) size += value.length;
  return size;
}

/** Returns where what follows it begins. */
export function writeArray(target: Buffer, start: number, { elementOid, values }: ColumnArray): number {
  let at = header(target, start, elementOid, values.length, values.includes(null));
  for (const value of values) {
    if (value === null) at = target.writeInt32BE(-1, at);
    else {
      at = target.writeInt32BE(value.length, at);
      at += value.copy(target, at);
    }
  }
  return at;
}

export function arrayOf(elementOid: number, values: readonly (Buffer | null)[]): Buffer {
  const column = { elementOid, values };
  const result = Buffer.allocUnsafe(arrayBytes(column));
  writeArray(result, 0, column);
  return result;
}

function fixed<T>(
  elementOid: number,
  width: number,
  values: readonly T[],
  write: (target: Buffer, value: T, at: number) => void,
): Buffer {
  const count = values.length;
  const result = Buffer.allocUnsafe(count === 0 ? emptyBytes : headerBytes + count * (4 + width));
  let at = header(result, 0, elementOid, count, false);
  for (const value of values) {
    result.writeInt32BE(width, at);
    write(result, value, at + 4);
    at += 4 + width;
  }
  return result;
}

export const int2Array = (values: readonly number[]): Buffer =>
  fixed(21, 2, values, (target, value, at) => target.writeInt16BE(value, at));
export const int4Array = (values: readonly number[]): Buffer =>
  fixed(23, 4, values, (target, value, at) => target.writeInt32BE(value, at));
export const int8Array = (values: readonly (bigint | number)[]): Buffer =>
  fixed(20, 8, values, (target, value, at) => target.writeBigInt64BE(BigInt(value), at));
export const boolArray = (values: readonly boolean[]): Buffer =>
  fixed(16, 1, values, (target, value, at) => target.writeUInt8(value ? 1 : 0, at));

export const textArray = (values: readonly (string | null)[]): Buffer =>
  arrayOf(
    25,
    values.map((value) => (value === null ? null : Buffer.from(value, 'utf8'))),
  );

/** jsonb's binary format is a version byte and the text. */
export const jsonbArray = (texts: readonly (string | null)[]): Buffer =>
  arrayOf(
    3802,
    texts.map((text) => (text === null ? null : Buffer.from(`\x01${text}`, 'utf8'))),
  );

export const uuidArray = (values: readonly (string | null)[]): Buffer =>
  arrayOf(
    2950,
    values.map((value) => (value === null ? null : Buffer.from(value.replaceAll('-', ''), 'hex'))),
  );
