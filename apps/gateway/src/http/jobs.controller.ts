import { Controller, Delete, Get, Inject, Param, Query, Req, Res } from '@nestjs/common';
import type { FastifyReply, FastifyRequest } from 'fastify';
import { JobOperations } from '../operations/jobs.ts';
import { accepted } from './accepted.ts';
import { checkNoQuery } from './call.ts';

@Controller('v1/jobs')
export class JobsController {
  readonly #jobs: JobOperations;

  constructor(@Inject(JobOperations) jobs: JobOperations) {
    this.#jobs = jobs;
  }

  @Get()
  list(@Query() query: Record<string, unknown>): Promise<object> {
    return this.#jobs.list(query);
  }

  @Get(':id')
  get(@Param('id') id: string, @Req() request: FastifyRequest): Promise<object> {
    checkNoQuery(request);
    return this.#jobs.get(id);
  }

  @Delete(':id')
  async cancel(
    @Param('id') id: string,
    @Req() request: FastifyRequest,
    @Res({ passthrough: true }) reply: FastifyReply,
  ): Promise<object> {
    checkNoQuery(request);
    return accepted(reply, await this.#jobs.cancel(id));
  }
}
