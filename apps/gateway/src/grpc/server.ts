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
import type { PgquorumError } from '#core/errors/error.ts';
import type { Logger } from '#core/observability/logger.process.ts';
import { toPgquorumError } from '../http/problem.ts';
import { keyOf, type Guard } from '../guard.ts';
import type { GatewayMetrics } from '../metrics.ts';
import { methodOf, type CallContext, type Method, type Services, type StreamMethod } from './services.ts';
import { toServiceError } from './status.ts';

const protoFolder = join(projectRoot, 'libs/core/proto');
const protoFiles = ['vectors', 'collections', 'replication', 'cluster'].map(
  (name) => `pgquorum/v1/${name}.proto`,
);
const longestTimeoutMs = 300_000;
const closeTimeoutMs = 8000;

const checkKey = (guard: Guard, metadata: Metadata): string =>
  guard.checkKey(keyOf(metadata.get('authorization')[0], metadata.get('x-api-key')[0]));

/** Reflection is a service of a library: its calls are checked on their way there. */
function guardReflection(guard: Guard): ServerInterceptor {
  return (method, call) => {
    if (!method.path.startsWith('/grpc.reflection.')) return new ServerInterceptingCall(call);
    return new ServerInterceptingCall(call, {
      start: (next) =>
        next({
          onReceiveMetadata: (metadata, proceed) => {
            try {
              checkKey(guard, metadata);
              proceed(metadata);
            } catch (cause) {
              const {
                code,
                details,
                metadata: trailer,
              } = toServiceError(toPgquorumError(cause), randomUUID());
              call.sendStatus({ code, details, metadata: trailer });
            }
          },
        }),
    });
  };
}

export interface GrpcServerOptions {
  readonly settings: Settings;
  readonly guard: Guard;
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
      interceptors: [guardReflection(options.guard)],
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
      this.#server.bindAsync(address, ServerCredentials.createInsecure(), (error, port) =>
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
    this.#server.addService(methods, Object.fromEntries(handlers));
  }

  #unary(path: string, method: Method): UntypedHandleCall {
    const { metrics } = this.#options;
    const handle: handleUnaryCall<never, object> = (call, answer) => {
      const startedAt = performance.now();
      const requestId = randomUUID();
      const observe = (code: string) =>
        metrics.observeCall({ method: path, code }, (performance.now() - startedAt) / 1000);
      const run = async () => method(call.request, this.#context(call));
      run().then(
        (response) => {
          const headers = new Metadata();
          headers.set('x-request-id', requestId);
          call.sendMetadata(headers);
          observe('OK');
          answer(null, response);
        },
        (cause: unknown) => {
          const failure = toServiceError(this.#refusal(cause, requestId, path), requestId);
          observe(grpcStatus[failure.code] ?? 'UNKNOWN');
          answer(failure);
        },
      );
    };
    return handle as UntypedHandleCall;
  }

  #streaming(path: string, method: StreamMethod): UntypedHandleCall {
    const { metrics } = this.#options;
    const handle: handleServerStreamingCall<never, object> = (call) => {
      const startedAt = performance.now();
      const requestId = randomUUID();
      const observe = (code: string) =>
        metrics.observeCall({ method: path, code }, (performance.now() - startedAt) / 1000);
      const run = async () => {
        const context = this.#context(call);
        const { signal } = context.caller;
        for await (const message of method(call.request, context))
          if (!call.write(message)) await once(call, 'drain', signal === undefined ? {} : { signal });
      };
      run().then(
        () => {
          observe('OK');
          call.end();
        },
        (cause: unknown) => {
          if (call.cancelled) return observe('CANCELLED');
          const failure = toServiceError(this.#refusal(cause, requestId, path), requestId);
          observe(grpcStatus[failure.code] ?? 'UNKNOWN');
          call.emit('error', failure);
        },
      );
    };
    return handle as UntypedHandleCall;
  }

  #refusal(cause: unknown, requestId: string, path: string): PgquorumError {
    const error = toPgquorumError(cause);
    if (error.code === 'internal')
      this.#options.logger.error({ err: error, requestId, method: path }, 'call failed');
    return error;
  }

  #context(call: ServerUnaryCall<never, object> | ServerWritableStream<never, object>): CallContext {
    const principal = checkKey(this.#options.guard, call.metadata);
    const gone = new AbortController();
    call.on('cancelled', () => gone.abort());
    const deadline = call.getDeadline();
    const at = deadline instanceof Date ? deadline.getTime() : deadline;
    const timeoutMs = Number.isFinite(at)
      ? Math.min(longestTimeoutMs, Math.max(1, Math.ceil(at - Date.now())))
      : undefined;
    return { caller: { principal, signal: gone.signal }, timeoutMs };
  }
}
