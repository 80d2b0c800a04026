/**
 * `copy ... from stdin`, sent whole without waiting for the server to ask for the rows. It is the cheapest way to write many new rows: nothing is
 * gathered, sorted or looked up before it is written, and the table's pages are filled many rows at a time. It can only add, so whoever sends it
 * has to be ready to start over with statements that can more.
 *
 * That is safe where the statement fails too: a server that is not copying (any more) ignores what comes of it.
 * https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-COPY
 */
import pg from 'pg';
import { sqlStateOf } from '../postgres/sqlstate.ts';
import type { CopyData } from './copy-format.ts';
import { CopyRefused } from './outcomes.ts';
import type { SendBuffer } from './send-buffer.ts';

interface Connection {
  readonly stream: { write(bytes: Buffer, sent: () => void): boolean };
}

export interface CopyOptions {
  readonly text: string;
  readonly data: CopyData;
  readonly buffer: SendBuffer;
}

class CopyStatement extends pg.Query {
  readonly #options: CopyOptions;

  constructor(options: CopyOptions, answer: (error: Error | null, result: pg.QueryResult) => void) {
    super({ text: options.text, callback: answer } as pg.QueryConfig);
    this.#options = options;
  }

  /** The driver calls this when it is the statement's turn. */
  override submit = (connection: unknown): void => {
    const { text, data, buffer } = this.#options;
    const textBytes = Buffer.byteLength(text);
    const message = buffer.take(1 + 4 + textBytes + 1 + data.bytesMax + copyDone.length);
    message[0] = 0x51; // Query
    let at = message.writeInt32BE(4 + textBytes + 1, 1);
    at += message.write(text, at, 'utf8');
    message[at] = 0;
    at = data.write(message, at + 1);
    message.set(copyDone, at);
    const { stream } = connection as Connection;
    stream.write(message.subarray(0, at + copyDone.length), () => buffer.give(message));
  };

  /** What it asks for has been sent. */
  handleCopyInResponse(): void {}
}

const copyDone = Buffer.from([0x63, 0, 0, 0, 4]);

/** Rows that came meanwhile (23), a table or type that can not be copied into (0A, 42), values that it does not take (22). */
const refusals = new Set(['0A', '22', '23', '42']);

/** Rejects with CopyRefused when statements that can more have to be tried. */
export function runCopy(client: pg.Client, options: CopyOptions): Promise<pg.QueryResult> {
  return new Promise((resolve, reject) => {
    client.query(
      new CopyStatement(options, (error, result) => {
        if (error === null || error === undefined) resolve(result);
        else
          reject(
            refusals.has(sqlStateOf(error)?.slice(0, 2) ?? '')
              ? new CopyRefused('', { cause: error })
              : error,
          );
      }),
    );
  });
}
