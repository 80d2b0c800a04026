/** Errors of handlers, in the same form as those of the framework. */
import { Catch, type ArgumentsHost, type ExceptionFilter } from '@nestjs/common';
import type { FastifyReply, FastifyRequest } from 'fastify';
import type { SendError } from './server.ts';

@Catch()
export class ProblemFilter implements ExceptionFilter {
  readonly #send: SendError;

  constructor(send: SendError) {
    this.#send = send;
  }

  catch(error: unknown, host: ArgumentsHost): void {
    const http = host.switchToHttp();
    this.#send(error, http.getRequest<FastifyRequest>(), http.getResponse<FastifyReply>());
  }
}
