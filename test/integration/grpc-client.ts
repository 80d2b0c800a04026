/** A plain gRPC client that has only the .proto files. */
import { join } from 'node:path';
import grpc from '@grpc/grpc-js';
import { loadSync } from '@grpc/proto-loader';
import { projectRoot } from '#core/config/project-root.files.ts';

const definition = loadSync(
  ['vectors', 'collections', 'replication', 'cluster'].map((name) => `pgquorum/v1/${name}.proto`),
  { includeDirs: [join(projectRoot, 'libs/core/proto')], longs: String, defaults: true },
) as unknown as Record<string, grpc.ServiceDefinition>;

export class GrpcClient implements Disposable {
  readonly #client: grpc.Client;
  readonly #metadata = new grpc.Metadata();

  constructor(port: number, key: string | null = null, credentials = grpc.credentials.createInsecure()) {
    this.#client = new grpc.Client(`127.0.0.1:${port}`, credentials);
    if (key !== null) this.#metadata.set('authorization', `Bearer ${key}`);
  }

  call(service: string, name: string, request: object): Promise<Record<string, unknown>> {
    const { path, requestSerialize, responseDeserialize } = definition[`pgquorum.v1.${service}`]![name]!;
    return new Promise((resolve, reject) => {
      this.#client.makeUnaryRequest(
        path,
        requestSerialize,
        responseDeserialize,
        request,
        this.#metadata,
        { deadline: Date.now() + 20_000 },
        (error, response) =>
          error === null ? resolve(response as Record<string, unknown>) : reject(error as Error),
      );
    });
  }

  stream(service: string, name: string, request: object): grpc.ClientReadableStream<Record<string, unknown>> {
    const { path, requestSerialize, responseDeserialize } = definition[`pgquorum.v1.${service}`]![name]!;
    return this.#client.makeServerStreamRequest(
      path,
      requestSerialize,
      responseDeserialize as (value: Buffer) => Record<string, unknown>,
      request,
      this.#metadata,
    );
  }

  [Symbol.dispose](): void {
    this.#client.close();
  }
}
