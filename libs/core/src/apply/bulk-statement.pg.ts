/**
 * A prepared statement whose parameters are arrays of a megabyte or more: the rows of a batch. The driver would copy each of them, into memory
 * that is new each time, before it sends them; new pages and the collections that they bring took a third of a replicator's time. Here the bind
 * message is written straight from the rows into a buffer that is used again once the socket has taken it.
 */
import pg from 'pg';
import { arrayBytes, writeArray, type ColumnArray } from '../postgres/binary-array.ts';
import type { SendBuffer } from './send-buffer.ts';

/** What of the driver's connection is used here. */
interface Connection {
  readonly stream: { write(bytes: Buffer, sent: () => void): boolean };
  bind?: unknown;
}

interface Preparing {
  prepare(connection: Connection): void;
}
const driver = pg.Query.prototype as unknown as Preparing;

export interface BulkOptions {
  readonly name: string;
  readonly text: string;
  readonly columns: readonly ColumnArray[];
  readonly buffer: SendBuffer;
}

class BulkStatement extends pg.Query {
  readonly #options: BulkOptions;

  constructor(options: BulkOptions, answer: (error: Error | null, result: pg.QueryResult) => void) {
    super({ name: options.name, text: options.text, callback: answer } as pg.QueryConfig);
    this.#options = options;
  }

  /** The driver calls this when it is the statement's turn; everything but the bind message stays as it does it. */
  prepare(connection: Connection): void {
    connection.bind = () => this.#bind(connection);
    try {
      driver.prepare.call(this, connection);
    } finally {
      delete connection.bind; // the one of its class shows again
    }
  }

  #bind(connection: Connection): void {
    const { name, columns, buffer } = this.#options;
    const bytes = bindBytes(name, columns);
    const message = buffer.take(bytes);
    writeBind(message, { name, columns, bytes });
    connection.stream.write(message.subarray(0, bytes), () => buffer.give(message));
  }
}

export function runBulk(client: pg.Client, options: BulkOptions): Promise<pg.QueryResult> {
  return new Promise((resolve, reject) => {
    client.query(
      new BulkStatement(options, (error, result) =>
        error === null || error === undefined ? resolve(result) : reject(error),
      ),
    );
  });
}

/** https://www.postgresql.org/docs/current/protocol-message-formats.html#PROTOCOL-MESSAGE-FORMATS-BIND */
const bindBytes = (name: string, columns: readonly ColumnArray[]): number =>
  1 +
  4 +
  1 +
  Buffer.byteLength(name) +
  1 +
  4 +
  2 +
  columns.reduce((sum, column) => sum + 4 + arrayBytes(column), 0) +
  4;

function writeBind(
  target: Buffer,
  { name, columns, bytes }: { name: string; columns: readonly ColumnArray[]; bytes: number },
): void {
  target[0] = 0x42;
  target.writeInt32BE(bytes - 1, 1);
  target[5] = 0; // the unnamed portal
  let at = 6 + target.write(name, 6, 'utf8');
  target[at] = 0;
  at = target.writeInt16BE(1, at + 1); // one format for all parameters:
  at = target.writeInt16BE(1, at); // binary
  at = target.writeInt16BE(columns.length, at);
  for (const column of columns) {
    at = target.writeInt32BE(arrayBytes(column), at);
    at = writeArray(target, at, column);
  }
  at = target.writeInt16BE(1, at); // one format for all results:
  target.writeInt16BE(0, at); // text
}
