/**
 * The gRPC side: our services, health and reflection on one port. The application has it as a transport of its own
 * (strategy.ts).
 */
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { join } from 'node:path';
import {
  Metadata,
  Server,
  ServerCredentials,
  ServerInterceptingCall,
  status as grpcStatus,
  type handleServerStreamingCall,
  type handleUnaryCall,
  type ServiceError,
  type ServerInterceptor,
  type ServerUnaryCall,
  type ServerWritableStream,
  type ServiceDefinition,
  type UntypedHandleCall,
} from '@grpc/grpc-js';
import { loadSync, type PackageDefinition } from '@grpc/proto-loader';
import { ReflectionService } from '@grpc/reflection';
import { HealthImplementation } from 'grpc-health-check';
import { projectRoot } from '#core/config/project-root.files.ts';
import type { Settings } from '#core/config/settings.ts';
import { PgquorumError } from '#core/errors/error.ts';
import type { Logger } from '#core/observability/logger.process.ts';
import { toPgquorumError } from '../http/problem.ts';
import type { Access } from '../access/access.ts';
import type { Guard } from '../access/guard.ts';
import { isOver, whileKnown, type Identity } from '../access/identity.ts';
import { operationOfMethod, type Operation } from '../access/operation-table.ts';
import type { Leave } from '../access/waiting-room.process.ts';
import type { GatewayMetrics } from '../metrics.ts';
import { methodOf, type CallContext, type Method, type Services, type StreamMethod } from './services.ts';
import { toServiceError } from './status.ts';

const protoFolder = join(projectRoot, 'libs/core/proto');
const protoFiles = ['vectors', 'collections', 'replication', 'cluster'].map(
  (name) => `pgquorum/v1/${name}.proto`,
);
const longestTimeoutMs = 300_000;
const closeTimeoutMs = 8000;

const identify = (guard: Guard, metadata: Metadata): Promise<Identity> =>
  guard.identify({ authorization: metadata.get('authorization')[0], apiKey: metadata.get('x-api-key')[0] });

/** Reflection is a service of a library: its calls are checked on their way there. */
function guardReflection(guard: Guard): ServerInterceptor {
  return (method, call) => {
    if (!method.path.startsWith('/grpc.reflection.')) return new ServerInterceptingCall(call);
    return new ServerInterceptingCall(call, {
      start: (next) =>
        next({
          onReceiveMetadata: (metadata, proceed) => {
            identify(guard, metadata).then(
              () => proceed(metadata),
              (cause: unknown) => {
                const failure = toServiceError(toPgquorumError(cause), randomUUID());
                call.sendStatus({ code: failure.code, details: failure.details, metadata: failure.metadata });
              },
            );
          },
        }),
    });
  };
}

/** Stands for a message whose bytes could not be read: the library would answer that the server had failed. */
class Unreadable {
  readonly cause: unknown;

  constructor(cause: unknown) {
    this.cause = cause;
  }
}

const readable = (methods: ServiceDefinition): ServiceDefinition =>
  Object.fromEntries(
    Object.entries(methods).map(([name, method]) => {
      const read = (bytes: Buffer): unknown => {
        try {
          return method.requestDeserialize(bytes);
        } catch (cause) {
          return new Unreadable(cause);
        }
      };
      return [name, { ...method, requestDeserialize: read }];
    }),
  );

export interface GrpcServerOptions {
  readonly settings: Settings;
  readonly access: Access;
  readonly metrics: GatewayMetrics;
  readonly logger: Logger;
  readonly services: Services;
}

export class GrpcServer {
  readonly #options: GrpcServerOptions;
  readonly #server: Server;
  readonly #health: HealthImplementation;

  constructor(options: GrpcServerOptions) {
    this.#options = options;
    this.#server = new Server({
      interceptors: [guardReflection(options.access.guard)],
      'grpc.max_receive_message_length': options.settings.bodyBytesMax,
      'grpc.max_send_message_length': -1,
    });
    const definition = loadSync(protoFiles, {
      includeDirs: [protoFolder],
      keepCase: false,
      longs: String,
      enums: String,
      defaults: false,
      arrays: false,
      oneofs: false,
    });
    for (const service of Object.keys(options.services)) this.#addService(service, definition);
    this.#health = new HealthImplementation({
      '': 'SERVING',
      ...Object.fromEntries(Object.keys(options.services).map((service) => [service, 'SERVING' as const])),
    });
    this.#health.addToServer(this.#server);
    new ReflectionService(definition).addToServer(this.#server);
  }

  /** The port that was bound. */
  listen(): Promise<number> {
    const { host, grpcPort } = this.#options.settings;
    const address = `${host.includes(':') ? `[${host}]` : host}:${grpcPort}`;
    return new Promise((resolve, reject) => {
      this.#server.bindAsync(address, credentialsOf(this.#options.access), (error, port) =>
        error === null ? resolve(port) : reject(error),
      );
    });
  }

  /** Calls that run are finished, for a time. */
  async close(): Promise<void> {
    for (const service of ['', ...Object.keys(this.#options.services)])
      this.#health.setStatus(service, 'NOT_SERVING');
    const timer = setTimeout(() => this.#server.forceShutdown(), closeTimeoutMs);
    await new Promise<void>((resolve) => this.#server.tryShutdown(() => resolve()));
    clearTimeout(timer);
  }

  #addService(service: string, definition: PackageDefinition): void {
    const methods = definition[service] as ServiceDefinition;
    const handlers = Object.entries(methods).map(([name, { responseStream }]) => {
      const path = `${service}/${name}`;
      const method = methodOf(this.#options.services, service, name);
      const handler = responseStream
        ? this.#streaming(path, method as StreamMethod)
        : this.#unary(path, method as Method);
      return [name, handler] as const;
    });
    this.#server.addService(readable(methods), Object.fromEntries(handlers));
  }

  #unary(path: string, method: Method): UntypedHandleCall {
    const handle: handleUnaryCall<never, object> = (call, answer) => {
      const running = this.#begin(path, call);
      const run = async () => {
        const identity = await this.#admit(running);
        running.leave = await this.#options.access.limits.room.enter(running.gone.signal);
        return this.#options.access.gate.show(
          await method(call.request, contextOf(call, running.gone.signal, identity)),
          identity,
        );
      };
      run().then(
        (response) => {
          const headers = new Metadata();
          headers.set('x-request-id', running.requestId);
          call.sendMetadata(headers);
          this.#end(running, { code: 'OK', outcome: 'ok' });
          answer(null, response);
        },
        (cause: unknown) => answer(this.#fail(running, cause)),
      );
    };
    return handle as UntypedHandleCall;
  }

  #streaming(path: string, method: StreamMethod): UntypedHandleCall {
    const handle: handleServerStreamingCall<never, object> = (call) => {
      const running = this.#begin(path, call);
      const run = async () => {
        const identity = await this.#admit(running);
        const context = contextOf(call, running.gone.signal, identity);
        const signal = whileKnown(identity, context.caller.signal);
        for await (const message of method(call.request, {
          ...context,
          caller: { ...context.caller, signal },
        }))
          if (!call.write(message)) await once(call, 'drain', { signal });
        if (isOver(identity)) throw expired();
      };
      run().then(
        () => {
          this.#end(running, { code: 'OK', outcome: 'ok' });
          call.end();
        },
        (cause: unknown) => {
          if (call.cancelled) return this.#end(running, { code: 'CANCELLED', outcome: 'cancelled' });
          const { identity } = running;
          call.emit('error', this.#fail(running, identity !== null && isOver(identity) ? expired() : cause));
        },
      );
    };
    return handle as UntypedHandleCall;
  }

  #begin(path: string, call: OpenCall): RunningCall {
    const { request, metadata } = call;
    const gone = new AbortController();
    if (call.cancelled) gone.abort();
    call.on('cancelled', () => gone.abort());
    return {
      gone,
      path,
      request,
      metadata,
      requestId: randomUUID(),
      startedAt: performance.now(),
      operation: operationOfMethod(path),
      identity: null,
    };
  }

  async #admit(running: RunningCall): Promise<Identity> {
    const { guard, limits } = this.#options.access;
    const { operation, request, metadata } = running;
    running.identity = await identify(guard, metadata);
    limits.count(running.identity);
    if (operation === undefined)
      throw new PgquorumError('permission_denied', 'the method has no entry in the table of operations');
    await guard.check(running.identity, { operation, path: request, query: request });
    if ((request as unknown) instanceof Unreadable)
      throw new PgquorumError('invalid_request', 'the message can not be read', {
        cause: (request as unknown as Unreadable).cause,
      });
    return running.identity;
  }

  #end(running: RunningCall, { code, outcome }: { code: string; outcome: string }): void {
    const { path, startedAt, operation, identity, request, requestId } = running;
    running.leave?.();
    this.#options.metrics.observeCall({ method: path, code }, (performance.now() - startedAt) / 1000);
    if (operation === undefined || identity === null) return;
    this.#options.access.audit.write({
      operation,
      principal: identity.principal,
      requestId,
      transport: 'grpc',
      fields: [request],
      outcome,
    });
  }

  #fail(running: RunningCall, cause: unknown): ServiceError {
    const { requestId, path, identity } = running;
    const { logger, access } = this.#options;
    const error = toPgquorumError(cause);
    if (error.code === 'internal') logger.error({ err: error, requestId, method: path }, 'call failed');
    const failure = toServiceError(
      identity === null ? error : access.gate.showError(error, identity),
      requestId,
    );
    this.#end(running, { code: grpcStatus[failure.code] ?? 'UNKNOWN', outcome: error.code });
    return failure;
  }
}

type OpenCall = ServerUnaryCall<never, object> | ServerWritableStream<never, object>;

interface RunningCall {
  /** `<full service name>/<method>` */
  readonly path: string;
  readonly request: Readonly<Record<string, unknown>>;
  readonly metadata: Metadata;
  readonly requestId: string;
  readonly startedAt: number;
  readonly operation: Operation | undefined;
  /** Aborted when the caller is gone. */
  readonly gone: AbortController;
  /** Null until the caller is known. */
  identity: Identity | null;
  leave?: Leave;
}

/** Clients without a certificate, where one is needed, do not get as far as a call. */
function credentialsOf({ certificates }: Access): ServerCredentials {
  if (certificates === null) return ServerCredentials.createInsecure();
  const { cert, key, clientCa } = certificates;
  return ServerCredentials.createSsl(clientCa, [{ cert_chain: cert, private_key: key }], clientCa !== null);
}

const expired = (): PgquorumError => new PgquorumError('unauthenticated', 'the token has expired');

function contextOf(
  call: OpenCall,
  signal: AbortSignal,
  identity: Identity,
): CallContext & { readonly caller: { readonly signal: AbortSignal } } {
  const deadline = call.getDeadline();
  const at = deadline instanceof Date ? deadline.getTime() : deadline;
  const timeoutMs = Number.isFinite(at)
    ? Math.min(longestTimeoutMs, Math.max(1, Math.ceil(at - Date.now())))
    : undefined;
  return { caller: { principal: identity.principal, signal }, identity, timeoutMs };
}
