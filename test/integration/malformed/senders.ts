/** Ways to send what no client would. Each gives what came back, and fails when nothing comes and nobody hangs up. */
import http from 'node:http';
import { connect } from 'node:net';
import { join } from 'node:path';
import grpc from '@grpc/grpc-js';
import { loadSync, type MethodDefinition } from '@grpc/proto-loader';
import { projectRoot } from '#core/config/project-root.files.ts';
import type { HttpRequest } from './requests.ts';

/** Far more than the timeouts that requests may name. */
const answerMs = 20_000;

export class HttpSender implements Disposable {
  readonly #agent = new http.Agent({ keepAlive: true, maxSockets: 16 });
  readonly #port: number;

  constructor(port: number) {
    this.#port = port;
  }

  send({ method, path, headers, body }: HttpRequest): Promise<{ status: number; text: string }> {
    return new Promise((resolve, reject) => {
      const request = http.request(
        {
          host: '127.0.0.1',
          port: this.#port,
          agent: this.#agent,
          method,
          path,
          // Said here, since Node says it only for methods that usually have a body.
          headers: { ...headers, 'content-length': String(body?.length ?? 0) },
          timeout: answerMs,
        },
        (response) => {
          const parts: Buffer[] = [];
          response.on('data', (part: Buffer) => parts.push(part));
          response.on('end', () =>
            resolve({ status: response.statusCode!, text: Buffer.concat(parts).toString() }),
          );
          response.on('error', reject);
        },
      );
      request.on('timeout', () => request.destroy(new Error('hung')));
      request.on('error', (cause) =>
        reject(new Error(`${method} ${path} ${JSON.stringify(headers)}: ${cause.message}`, { cause })),
      );
      request.end(body ?? undefined);
    });
  }

  [Symbol.dispose](): void {
    this.#agent.destroy();
  }
}

/** Sends, says that this was all, and reads until the other side hangs up. */
export function sendBytes(port: number, bytes: Buffer): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const parts: Buffer[] = [];
    const socket = connect({ port, host: '127.0.0.1' }, () => socket.end(bytes));
    socket.setTimeout(answerMs, () => {
      socket.destroy();
      reject(new Error(`hung after ${JSON.stringify(bytes.toString('latin1'))}`));
    });
    socket.on('data', (part) => parts.push(part));
    // A reset is an end too.
    socket.on('error', () => undefined);
    socket.on('close', () => resolve(Buffer.concat(parts)));
  });
}

const definition = loadSync(
  ['vectors', 'collections', 'replication', 'cluster'].map((name) => `pgquorum/v1/${name}.proto`),
  { includeDirs: [join(projectRoot, 'libs/core/proto')], longs: String, defaults: true },
);

export interface GrpcMethod {
  readonly path: string;
  encode(message: object): Buffer;
}

/** Those that answer once. */
export const grpcMethods: readonly GrpcMethod[] = Object.values(definition)
  .filter((one) => !('format' in one))
  .flatMap((service) => Object.values(service as Record<string, MethodDefinition<object, object>>))
  .filter(({ responseStream }) => !responseStream)
  .map(({ path, requestSerialize }) => ({ path, encode: requestSerialize }));

export class GrpcSender implements Disposable {
  readonly #client: grpc.Client;

  constructor(port: number) {
    this.#client = new grpc.Client(`127.0.0.1:${port}`, grpc.credentials.createInsecure());
  }

  /** The status. */
  send(path: string, message: Buffer): Promise<grpc.status> {
    return new Promise((resolve) => {
      this.#client.makeUnaryRequest(
        path,
        (bytes: Buffer) => bytes,
        (bytes) => bytes,
        message,
        { deadline: Date.now() + answerMs },
        (error) => resolve(error?.code ?? grpc.status.OK),
      );
    });
  }

  [Symbol.dispose](): void {
    this.#client.close();
  }
}
