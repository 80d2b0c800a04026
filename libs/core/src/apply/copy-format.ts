/**
 * What `copy ... from stdin` reads: rows in its binary format, or lines in its text format, within messages of the frontend protocol. Pure.
 * https://www.postgresql.org/docs/current/sql-copy.html#SQL-COPY-FILE-FORMATS
 */

/** The server reads message by message into memory that it uses again: small ones stay in the processor's cache. */
const messageBytes = 32 * 1024;
const messageHeaderBytes = 5;

/** Something that can be written into a larger buffer. */
export interface CopyData {
  /** At least as many as are written. */
  readonly bytesMax: number;
  /** Returns where what follows begins. */
  write(target: Buffer, start: number): number;
}

const signature = Buffer.from('PGCOPY\n\xff\r\n\0', 'latin1');
const flagBytes = 8;

/** Rows of values that are in the binary format of their types already. */
export function binaryRows(rows: readonly (readonly (Buffer | null)[])[]): CopyData {
  let bytesMax = messageHeaderBytes + signature.length + flagBytes + 2;
  for (const row of rows) {
    bytesMax += messageHeaderBytes + 2 + 4 * row.length;
    for (const value of row) if (value !== null) bytesMax += value.length;
  }
  return { bytesMax, write: (target, start) => writeRows(target, start, rows) };
}

function writeRows(target: Buffer, start: number, rows: readonly (readonly (Buffer | null)[])[]): number {
  let message = start;
  let at = message + messageHeaderBytes;
  target.set(signature, at);
  at += signature.length;
  at = target.writeInt32BE(0, at); // no flags
  at = target.writeInt32BE(0, at); // no extension of the header
  for (const row of rows) {
    if (at - message > messageBytes) {
      endMessage(target, message, at);
      message = at;
      at += messageHeaderBytes;
    }
    at = target.writeInt16BE(row.length, at);
    for (const value of row) {
      if (value === null) at = target.writeInt32BE(-1, at);
      else {
        at = target.writeInt32BE(value.length, at);
        target.set(value, at);
        at += value.length;
      }
    }
  }
  at = target.writeInt16BE(-1, at);
  endMessage(target, message, at);
  return at;
}

/** A CopyData message from `start` to `end`. */
function endMessage(target: Buffer, start: number, end: number): void {
  target[start] = 0x64;
  target.writeInt32BE(end - start - 1, start + 1);
}

/** Rows of values as texts. */
export function textRows(rows: readonly (readonly (string | null)[])[]): CopyData {
  const lines = Buffer.from(rows.map((row) => `${row.map(textField).join('\t')}\n`).join(''), 'utf8');
  return {
    bytesMax: messageHeaderBytes + lines.length,
    write: (target, start) => {
      target.set(lines, start + messageHeaderBytes);
      endMessage(target, start, start + messageHeaderBytes + lines.length);
      return start + messageHeaderBytes + lines.length;
    },
  };
}

const special = /[\\\t\n\r]/;
const escapes: Readonly<Record<string, string>> = { '\\': '\\\\', '\t': '\\t', '\n': '\\n', '\r': '\\r' };

function textField(value: string | null): string {
  if (value === null) return '\\N';
  return special.test(value) ? value.replaceAll(/[\\\t\n\r]/g, (found) => escapes[found]!) : value;
}
