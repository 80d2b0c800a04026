/**
 * Fastify as the gateway needs it: our parser, ids on every answer, the guard before a body is read, and one form for every error, the framework's own
 * included.
 */
import { randomUUID } from 'node:crypto';
import { FastifyAdapter } from '@nestjs/platform-fastify';
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import type { Settings } from '#core/config/settings.ts';
import { PgquorumError } from '#core/errors/error.ts';
import type { Logger } from '#core/observability/logger.process.ts';
import { parseLossless } from '#core/requests/lossless-json.ts';
import type { Access } from '../access/access.ts';
import { httpsOptions } from '../access/transport.files.ts';
import type { GatewayMetrics } from '../metrics.ts';
import { installAccess } from './access-hooks.ts';
import { installClosing } from './closing.ts';
import { sendProblem, toPgquorumError } from './problem.ts';

declare module 'fastify' {
  interface FastifyRequest {
    /** The bytes of the body as sent. */
    rawBody?: Buffer;
  }
}

export interface HttpServerOptions {
  readonly settings: Settings;
  readonly access: Access;
  readonly metrics: GatewayMetrics;
  readonly logger: Logger;
}

/** Ids have up to 512 bytes, each of which may be written as three. */
const paramLengthMax = 2048;
const requestIdPattern = /^[\w.:-]{1,64}$/;

const requestIdOf = (request: { headers: Record<string, unknown> }): string => {
  const given = request.headers['x-request-id'];
  return typeof given === 'string' && requestIdPattern.test(given) ? given : randomUUID();
};

export interface ServedRoute {
  readonly method: string;
  /** With parameters as `:name`. */
  readonly path: string;
}

export type SendError = (error: unknown, request: FastifyRequest, reply: FastifyReply) => void;

/** Nest installs its own handlers at start, which would lose the codes of the framework's errors. */
class Adapter extends FastifyAdapter {
  override setErrorHandler(): never {
    return undefined as never;
  }
  override setNotFoundHandler(): never {
    return undefined as never;
  }
}

export function createHttpAdapter(options: HttpServerOptions): {
  adapter: FastifyAdapter;
  sendError: SendError;
  /** What is served, once the application has begun to listen. */
  routes: readonly ServedRoute[];
} {
  const { settings, logger, access } = options;
  const sendError: SendError = (error, request, reply) => {
    const problem = toPgquorumError(error);
    request.refusal = problem.code;
    if (problem.code === 'internal') logger.error({ err: problem, requestId: request.id }, 'request failed');
    else if (problem.entry.http >= 500)
      logger.debug({ err: problem, requestId: request.id }, 'request refused');
    const { identity } = request;
    sendProblem(reply, request, identity === undefined ? problem : access.gate.showError(problem, identity));
  };
  const adapter = new Adapter({
    logger: false,
    bodyLimit: settings.bodyBytesMax,
    genReqId: requestIdOf as never,
    requestTimeout: 120_000,
    connectionTimeout: 0,
    return503OnClosing: false,
    ...(access.certificates === null ? {} : { https: httpsOptions(access.certificates) }),
    routerOptions: { maxParamLength: paramLengthMax, caseSensitive: true },
    frameworkErrors: (error: unknown, request: FastifyRequest, reply: FastifyReply) => {
      reply.header('x-request-id', request.id);
      sendError(error, request, reply);
    },
  } as never);
  const instance = adapter.getInstance() as unknown as FastifyInstance;
  const routes: ServedRoute[] = [];
  instance.addHook('onRoute', ({ method, url }) => {
    for (const one of [method].flat()) routes.push({ method: one, path: url });
  });
  installParser(instance);
  installHooks(instance, options);
  installClosing(instance);
  instance.setErrorHandler((error, request, reply) => sendError(error, request, reply));
  instance.setNotFoundHandler((request, reply) =>
    sendError(
      new PgquorumError('route_not_found', `${request.method} ${request.url.split('?')[0]!.slice(0, 200)}`),
      request,
      reply,
    ),
  );
  return { adapter, sendError, routes };
}

function installParser(instance: FastifyInstance): void {
  instance.removeAllContentTypeParsers();
  instance.addContentTypeParser('application/json', { parseAs: 'buffer' }, (request, body, done) => {
    const bytes = body as Buffer;
    request.rawBody = bytes;
    if (bytes.length === 0) return done(null, undefined);
    try {
      done(null, parseLossless(decode(bytes)));
    } catch (cause) {
      done(new PgquorumError('malformed_json', 'the body can not be parsed as JSON', { cause }));
    }
  });
}

const utf8 = new TextDecoder('utf-8', { fatal: true });
/** Bytes that are no UTF-8 are refused rather than replaced. */
const decode = (bytes: Buffer): string => utf8.decode(bytes);

function installHooks(instance: FastifyInstance, { access, metrics }: HttpServerOptions): void {
  instance.addHook('onRequest', (request, reply, done) => {
    reply.header('x-request-id', request.id);
    reply.header('x-content-type-options', 'nosniff');
    reply.header('cache-control', 'no-store');
    done();
  });
  installAccess(instance, access);
  instance.addHook('onResponse', (request, reply, done) => {
    metrics.observeRequest(
      { route: request.routeOptions.url ?? 'none', method: request.method, status: reply.statusCode },
      reply.elapsedTime / 1000,
    );
    done();
  });
}
