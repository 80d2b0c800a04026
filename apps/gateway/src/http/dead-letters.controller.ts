import { Controller, Delete, Get, HttpCode, Inject, Param, Post, Query, Req } from '@nestjs/common';
import type { FastifyRequest } from 'fastify';
import { checkFields, isObject } from '#core/requests/fields.ts';
import { DeadLetterOperations } from '../operations/dead-letters.ts';
import { checkNoQuery, principalOf } from './call.ts';

@Controller('v1/dead-letters')
export class DeadLettersController {
  readonly #letters: DeadLetterOperations;

  constructor(@Inject(DeadLetterOperations) letters: DeadLetterOperations) {
    this.#letters = letters;
  }

  @Get()
  list(@Query() query: Record<string, unknown>): Promise<object> {
    return this.#letters.list(query);
  }

  @Get(':id')
  get(@Param('id') id: string, @Req() request: FastifyRequest): Promise<object> {
    checkNoQuery(request);
    return this.#letters.get(id);
  }

  @Post(':id/replay')
  @HttpCode(200)
  replay(@Param('id') id: string, @Req() request: FastifyRequest): Promise<object> {
    checkNoQuery(request);
    if (isObject(request.body)) checkFields(request.body, '', []);
    return this.#letters.replay(id, principalOf(request));
  }

  @Delete(':id')
  @HttpCode(204)
  async discard(@Param('id') id: string, @Req() request: FastifyRequest): Promise<void> {
    checkNoQuery(request);
    await this.#letters.discard(id, principalOf(request));
  }
}
