/** Every request, before its body is read: who calls, and whether they may. Afterwards what they may see of the answer, and the line of the audit log. */
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import { PgquorumError } from '#core/errors/error.ts';
import type { Access } from '../access/access.ts';
import type { AuditLog } from '../access/audit.ts';
import type { Identity } from '../access/identity.ts';
import { operationOfRoute, type Operation } from '../access/operation-table.ts';
import { showsCertificate } from '../access/transport.files.ts';
import type { WaitingRoom } from '../access/waiting-room.process.ts';

declare module 'fastify' {
  interface FastifyRequest {
    /** Undefined until the caller is known. */
    identity?: Identity;
    /** Undefined where there is no such route. */
    operation?: Operation | undefined;
    /** The code of the error that was answered. */
    refusal?: string;
    /** Says that the handler is done. */
    answered?: () => void;
  }
}

export function installAccess(
  instance: FastifyInstance,
  { guard, gate, audit, limits, certificates }: Access,
): void {
  const needsCertificate = certificates !== null && certificates.clientCa !== null;
  instance.addHook('onRequest', async (request, reply) => {
    const { url } = request.routeOptions;
    request.operation = url === undefined ? undefined : operationOfRoute(request.method, url);
    if (needsCertificate && request.operation?.callers !== 'all' && !showsCertificate(request.socket))
      throw new PgquorumError('unauthenticated', 'a client certificate is needed');
    request.identity = await guard.identifyHttp(request.headers, request.operation);
    if (request.operation?.callers !== 'all') limits.count(request.identity);
    if (url === undefined) return;
    if (request.operation === undefined)
      throw new PgquorumError('permission_denied', 'the route has no entry in the table of operations');
    await guard.check(request.identity, {
      operation: request.operation,
      path: fieldsOf(request.params),
      query: fieldsOf(request.query),
    });
    if (request.operation.callers !== 'all' && request.operation.stream !== true)
      await takePlace(request, reply, limits.room);
  });
  // Before an answer is written nothing of the request is done any more.
  instance.addHook('onSend', (request, _reply, payload, done) => {
    request.answered?.();
    done(null, payload);
  });
  instance.addHook('preSerialization', (request, _reply, payload, done) =>
    done(null, request.identity === undefined ? payload : gate.show(payload, request.identity)),
  );
  instance.addHook('onResponse', (request, _reply, done) => {
    writeLine(audit, request);
    done();
  });
}

/**
 * A request has its place until its handler is done and the answer is sent, or nobody waits for it any more: work goes on for callers that have gone, and
 * has to be counted.
 */
async function takePlace(request: FastifyRequest, reply: FastifyReply, room: WaitingRoom): Promise<void> {
  const gone = new AbortController();
  const leaveRow = (): void => gone.abort();
  reply.raw.once('close', leaveRow);
  const leave = await room.enter(gone.signal);
  reply.raw.off('close', leaveRow);
  const closed = new Promise<void>((resolve) => {
    if (reply.raw.closed) resolve();
    else reply.raw.once('close', resolve);
  });
  const answered = new Promise<void>((resolve) => (request.answered = resolve));
  void Promise.all([closed, answered]).then(leave);
}

/** Callers that are not known are not listed: anybody could fill the log. */
function writeLine(audit: AuditLog, request: FastifyRequest): void {
  const { operation, identity, params, query, body, id, refusal } = request;
  if (operation === undefined || identity === undefined) return;
  audit.write({
    operation,
    principal: identity.principal,
    requestId: id,
    transport: 'http',
    fields: [params, query, body],
    outcome: refusal ?? 'ok',
  });
}

const fieldsOf = (value: unknown): Readonly<Record<string, unknown>> =>
  (value ?? {}) as Readonly<Record<string, unknown>>;
