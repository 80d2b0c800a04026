/** The one error of the client: what the gateway answered, or why there was no answer. */

/** As the gateway sends it: `application/problem+json`. */
export interface Problem {
  readonly type: string;
  readonly title: string;
  readonly status: number;
  readonly code: string;
  readonly detail: string;
  readonly hint: string;
  readonly requestId?: string;
}

/** Codes of the client itself, beside those of docs/errors.md. */
export type LocalCode =
  /** No answer: the gateway can not be reached, or the connection broke. */
  | 'connection_failed'
  /** The call's own time is over. */
  | 'deadline_exceeded'
  /** Something that is no gateway has answered. */
  | 'unexpected_answer';

export class PgquorumError extends Error {
  override readonly name: string = 'PgquorumError';
  /** Stable: a code of docs/errors.md or one of `LocalCode`. */
  readonly code: string;
  /** Of the answer; 0 when there was none. */
  readonly status: number;
  readonly detail: string;
  readonly hint: string;
  readonly requestId: string | null;
  /** All that the answer had, e.g. a receipt or the results of items. */
  readonly body: Readonly<Record<string, unknown>>;

  constructor(given: {
    readonly code: string;
    readonly status: number;
    readonly detail: string;
    readonly hint?: string;
    readonly requestId?: string | null;
    readonly body?: Readonly<Record<string, unknown>>;
    readonly cause?: unknown;
  }) {
    super(`${given.code}: ${given.detail}`, given.cause === undefined ? undefined : { cause: given.cause });
    this.code = given.code;
    this.status = given.status;
    this.detail = given.detail;
    this.hint = given.hint ?? '';
    this.requestId = given.requestId ?? null;
    this.body = given.body ?? {};
  }
}

export const localError = (code: LocalCode, detail: string, cause?: unknown): PgquorumError =>
  new PgquorumError({ code, status: 0, detail, cause });

/** From the body of an answer, whoever sent it. */
export function answeredError(status: number, text: string, requestId: string | null): PgquorumError {
  try {
    const body = JSON.parse(text) as Partial<Problem> & Record<string, unknown>;
    if (typeof body.code === 'string')
      return new PgquorumError({
        code: body.code,
        status,
        detail: body.detail ?? '',
        hint: body.hint ?? '',
        requestId: body.requestId ?? requestId,
        body,
      });
  } catch {
    // falls through: a proxy may answer in its own form
  }
  return new PgquorumError({ code: 'unexpected_answer', status, detail: `status ${status}`, requestId });
}
