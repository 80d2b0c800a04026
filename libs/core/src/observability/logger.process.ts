/**
 * The log of a process: JSON lines on stdout. Written at once, so that the last line before a crash is there. Secrets and rows never get
 * in. When nobody reads the log any more its lines are dropped: a process whose reader died must go on, and come to its end.
 */
import { writeSync } from 'node:fs';
import { pino, type Logger } from 'pino';
import type { Settings } from '../config/settings.ts';

export type { Logger };

/** Parts of a connection string that no log may hold; drivers put them into their errors. */
const passwordInUrl = /(postgres(?:ql)?:\/\/[^\s:/@]*):[^\s@]*@/g;
const withoutSecrets = (text: string): string => text.replaceAll(passwordInUrl, '$1:***@');

interface LoggedError {
  readonly type: string;
  readonly message: string;
  readonly code?: string;
  readonly stack?: string;
  readonly cause?: LoggedError;
}

/** An error with its causes. Only known fields: a database error's `detail` quotes the row. */
export function describeError(error: unknown, depth = 0): LoggedError {
  if (!(error instanceof Error)) return { type: typeof error, message: withoutSecrets(String(error)) };
  const { code } = error as { code?: unknown };
  return {
    type: error.name,
    message: withoutSecrets(error.message),
    ...(typeof code === 'string' ? { code } : {}),
    ...(error.stack === undefined ? {} : { stack: withoutSecrets(error.stack) }),
    ...(error.cause === undefined || depth > 4 ? {} : { cause: describeError(error.cause, depth + 1) }),
  };
}

export interface LoggerOptions {
  readonly app: string;
  readonly level: Settings['logLevel'];
  /** Where lines go instead of stdout. */
  readonly write?: (line: string) => void;
}

export function createLogger({ app, level, write }: LoggerOptions): Logger {
  const options = {
    level,
    base: { app, pid: process.pid },
    serializers: { err: (error: unknown) => describeError(error) },
  };
  return pino(options, { write: write ?? writeToStdout });
}

const stdout = 1;
const pauseMs = 5;
/** How long a line waits for a reader that is slow. */
const patienceMs = 1_000;
const pause = new Int32Array(new SharedArrayBuffer(4));

/**
 * Not pino's own stream: at the end of a process it tries for ever to write what a closed pipe refuses, so the process never ends. A full
 * pipe is waited for, not for ever either.
 */
function writeToStdout(line: string): void {
  let rest = Buffer.from(line);
  let patience = patienceMs / pauseMs;
  while (rest.length > 0) {
    try {
      rest = rest.subarray(writeSync(stdout, rest));
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EAGAIN' || patience === 0) return;
      patience -= 1;
      Atomics.wait(pause, 0, 0, pauseMs);
    }
  }
}
