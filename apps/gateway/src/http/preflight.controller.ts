import { Controller, Inject, Post, Req, Res } from '@nestjs/common';
import type { FastifyReply, FastifyRequest } from 'fastify';
import { invalid, checkFields, isObject } from '#core/requests/fields.ts';
import { JobOperations } from '../operations/jobs.ts';
import { accepted } from './accepted.ts';
import { checkNoQuery } from './call.ts';

@Controller('v1/preflight')
export class PreflightController {
  readonly #jobs: JobOperations;

  constructor(@Inject(JobOperations) jobs: JobOperations) {
    this.#jobs = jobs;
  }

  @Post()
  async start(
    @Req() request: FastifyRequest,
    @Res({ passthrough: true }) reply: FastifyReply,
  ): Promise<object> {
    checkNoQuery(request);
    if (isObject(request.body)) checkFields(request.body, '', []);
    else if (request.body !== undefined) throw invalid('the body: must be an object, or left out');
    return accepted(reply, await this.#jobs.preflight());
  }
}
