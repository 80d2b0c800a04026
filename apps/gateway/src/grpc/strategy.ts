/**
 * The gRPC server as a transport of the Nest application: Nest starts and ends it with the rest. A strategy of our own, since Nest's gRPC transport
 * passes on neither the deadline nor the cancellation of a call, and can not tell which port was chosen.
 */
import { Server, type CustomTransportStrategy } from '@nestjs/microservices';
import type { GrpcServer } from './server.ts';

export class GrpcStrategy extends Server implements CustomTransportStrategy {
  readonly #grpc: GrpcServer;
  #port = 0;

  constructor(grpc: GrpcServer) {
    super();
    this.#grpc = grpc;
  }

  /** The port that was chosen, once it listens. */
  get port(): number {
    return this.#port;
  }

  async listen(done: (error?: unknown) => void): Promise<void> {
    try {
      this.#port = await this.#grpc.listen();
    } catch (cause) {
      done(cause);
      return;
    }
    done();
  }

  close(): Promise<void> {
    return this.#grpc.close();
  }

  /** Handlers are services of the proto files, not message patterns: there are no events of the transport to listen to. */
  on(): void {
    throw new Error('the gRPC transport has no events');
  }

  unwrap<T>(): T {
    return this.#grpc as T;
  }
}
