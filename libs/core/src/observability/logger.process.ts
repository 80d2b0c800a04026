/** The log of a process: JSON lines on stdout. Written at once, so that the last line before a crash is there. Secrets and rows never get in. */
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
  return write === undefined ? pino(options) : pino(options, { write });
}
