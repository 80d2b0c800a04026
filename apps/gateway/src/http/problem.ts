/** Any error -> the problem that a caller sees. What is not known becomes `internal`; its details are in the log only. */
import type { FastifyError, FastifyReply, FastifyRequest } from 'fastify';
import { errorCodes, type ErrorCode } from '#core/errors/codes.ts';
import { isPgquorumError, PgquorumError } from '#core/errors/error.ts';
import { requestError } from '#core/postgres/request-error.ts';
import { isConnectionError } from '#core/postgres/sqlstate.ts';
import { retryAfterMsOf } from '../access/limits.ts';

export interface Problem {
  readonly type: string;
  readonly title: string;
  readonly status: number;
  readonly code: ErrorCode;
  readonly detail: string;
  readonly hint: string;
}

export const problemType = 'application/problem+json';

export function problemOf(error: PgquorumError): Problem {
  const { http, title, hint } = errorCodes[error.code];
  return {
    type: `urn:pgquorum:error:${error.code}`,
    title,
    status: http,
    code: error.code,
    detail: error.detail,
    hint,
  };
}

const byFastifyCode: Readonly<Record<string, [ErrorCode, string]>> = {
  FST_ERR_CTP_BODY_TOO_LARGE: ['body_too_large', 'the body is larger than is taken'],
  FST_ERR_CTP_INVALID_MEDIA_TYPE: ['unsupported_media_type', 'the content type is not supported'],
  FST_ERR_CTP_INVALID_CONTENT_LENGTH: [
    'invalid_request',
    'the body does not have the length that the header says',
  ],
  FST_ERR_CTP_EMPTY_TYPE: ['unsupported_media_type', 'the content type is missing'],
  FST_ERR_BAD_URL: ['invalid_request', 'the path is not a valid URL path'],
  FST_ERR_MAX_PARAM_LENGTH: ['invalid_key', 'the id is too long'],
  FST_ERR_ASYNC_CONSTRAINT: ['route_not_found', 'there is no such route'],
};

/** Translates errors of the framework and the driver. */
export function toPgquorumError(error: unknown): PgquorumError {
  const known = requestError(error);
  if (isPgquorumError(known)) return known;
  const { code, statusCode, status } = error as Partial<FastifyError> & { status?: number };
  const fastify = typeof code === 'string' ? byFastifyCode[code] : undefined;
  if (fastify !== undefined) return new PgquorumError(fastify[0], fastify[1], { cause: error });
  if (isConnectionError(error))
    return new PgquorumError('replicas_unavailable', 'a node can not be reached', { cause: error });
  const http = statusCode ?? status;
  if (http === 404) return new PgquorumError('route_not_found', 'there is no such route', { cause: error });
  if (http !== undefined && http >= 400 && http < 500)
    return new PgquorumError('invalid_request', 'the request can not be read', { cause: error });
  return new PgquorumError('internal', 'the log has the details', { cause: error });
}

export type LogProblem = (entry: { error: PgquorumError; request: FastifyRequest }) => void;

export function sendProblem(reply: FastifyReply, request: FastifyRequest, error: PgquorumError): void {
  const problem = problemOf(error);
  const retryAfterMs = retryAfterMsOf(error);
  if (retryAfterMs !== null) reply.header('retry-after', String(Math.max(1, Math.ceil(retryAfterMs / 1000))));
  if (problem.code === 'unauthenticated') reply.header('www-authenticate', 'Bearer');
  void reply
    .code(problem.status)
    .header('content-type', problemType)
    .send(Buffer.from(JSON.stringify({ ...error.extra, ...problem, requestId: request.id })));
}
