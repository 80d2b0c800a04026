/** The one error class. `detail` is safe to show: it never holds row data, secrets or connection strings. */
import type { CodeEntry } from './code-entry.ts';
import { errorCodes, type ErrorCode } from './codes.ts';

export class PgquorumError extends Error {
  override readonly name = 'PgquorumError';
  readonly code: ErrorCode;
  readonly detail: string;
  /** Fields that the answer carries beside the standard ones, e.g. a receipt. */
  readonly extra: Readonly<Record<string, unknown>>;

  constructor(
    code: ErrorCode,
    detail: string,
    options: { cause?: unknown; extra?: Record<string, unknown> } = {},
  ) {
    super(`${code}: ${detail}`, options.cause === undefined ? undefined : { cause: options.cause });
    this.code = code;
    this.detail = detail;
    this.extra = options.extra ?? {};
  }

  get entry(): CodeEntry {
    return errorCodes[this.code];
  }
}

export const isPgquorumError = (value: unknown): value is PgquorumError => value instanceof PgquorumError;

/** For the default branch of a switch over a union: fails to compile when a case is missing, and stops the process's loop if one slips in. */
export function unreachable(value: never): never {
  throw new PgquorumError('invariant_broken', `unexpected value ${JSON.stringify(value)}`);
}
