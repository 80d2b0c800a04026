/** What the verbs need of an HTTP request. */
import type { FastifyRequest } from 'fastify';
import { PgquorumError } from '#core/errors/error.ts';
import { notSupported, unknownField } from '#core/requests/fields.ts';
import type { Identity } from '../access/identity.ts';
import type { PatchCall, ReadCall, WriteCall } from '../operations/caller.ts';

const queryOf = (request: FastifyRequest): Readonly<Record<string, unknown>> => ({
  ...(request.query as Record<string, unknown>),
});

/** Who calls. No request comes to a handler without that. */
export function identityOf({ identity }: FastifyRequest): Identity {
  if (identity === undefined) throw new PgquorumError('internal', 'the caller was not asked who it is');
  return identity;
}

export const principalOf = (request: FastifyRequest): string => identityOf(request).principal;

export const readCall = (request: FastifyRequest): ReadCall => ({
  caller: { principal: principalOf(request) },
  options: queryOf(request),
});

/** Writes that can not be tied to a version refuse the header rather than write unconditionally. */
export function writeCall(request: FastifyRequest): WriteCall {
  if (request.headers['if-match'] !== undefined)
    throw notSupported('If-Match', 'only PATCH of a vector compares versions');
  return unconditionalCall(request);
}

export const patchCall = (request: FastifyRequest): PatchCall => ({
  ...unconditionalCall(request),
  ifMatch: request.headers['if-match'] ?? null,
});

function unconditionalCall(request: FastifyRequest): WriteCall {
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
