import { Controller, Inject, Post, Req, Res } from '@nestjs/common';
import type { FastifyReply, FastifyRequest } from 'fastify';
import { VerifyOperations } from '../operations/verify.ts';
import { accepted } from './accepted.ts';
import { checkNoQuery } from './call.ts';

@Controller('v1/verify')
export class VerifyController {
  readonly #verify: VerifyOperations;

  constructor(@Inject(VerifyOperations) verify: VerifyOperations) {
    this.#verify = verify;
  }

  @Post()
  async start(
    @Req() request: FastifyRequest,
    @Res({ passthrough: true }) reply: FastifyReply,
  ): Promise<object> {
    checkNoQuery(request);
    return accepted(reply, await this.#verify.start(request.body));
  }
}
