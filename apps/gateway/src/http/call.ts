/** What the verbs need of an HTTP request. */
import type { FastifyRequest } from 'fastify';
import { PgquorumError } from '#core/errors/error.ts';
import { notSupported, unknownField } from '#core/requests/fields.ts';
import type { ReadCall, WriteCall } from '../operations/caller.ts';

const queryOf = (request: FastifyRequest): Readonly<Record<string, unknown>> => ({
  ...(request.query as Record<string, unknown>),
});

export const readCall = (request: FastifyRequest): ReadCall => ({
  caller: { principal: request.principal ?? 'anonymous' },
  options: queryOf(request),
});

export function writeCall(request: FastifyRequest): WriteCall {
  if (request.headers['if-match'] !== undefined)
    throw notSupported('If-Match', 'compare-and-set of vectors is not available in this version');
  const key = request.headers['idempotency-key'];
  return {
    ...readCall(request),
    idempotencyKey: typeof key === 'string' ? key : null,
    body: request.rawBody ?? '',
  };
}

/** Routes that take no query parameters. */
export function checkNoQuery(request: FastifyRequest): void {
  const [field] = Object.keys(queryOf(request));
  if (field !== undefined) throw unknownField(field);
}

export function bodyOf(request: FastifyRequest): unknown {
  if (request.body === undefined) throw new PgquorumError('malformed_json', 'the body is empty');
  return request.body;
}
