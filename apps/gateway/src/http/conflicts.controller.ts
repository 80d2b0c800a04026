import { Controller, Get, Headers, HttpCode, Inject, Param, Post, Query, Req } from '@nestjs/common';
import type { FastifyRequest } from 'fastify';
import { checkFields, isObject } from '#core/requests/fields.ts';
import { ConflictOperations } from '../operations/conflicts.ts';
import { checkNoQuery } from './call.ts';

@Controller('v1/conflicts')
export class ConflictsController {
  readonly #conflicts: ConflictOperations;

  constructor(@Inject(ConflictOperations) conflicts: ConflictOperations) {
    this.#conflicts = conflicts;
  }

  @Get()
  list(@Query() query: Record<string, unknown>): Promise<object> {
    return this.#conflicts.list(query);
  }

  @Get('count')
  count(@Query() query: Record<string, unknown>): Promise<object> {
    return this.#conflicts.count(query);
  }

  @Get(':id')
  get(@Param('id') id: string, @Req() request: FastifyRequest): Promise<object> {
    checkNoQuery(request);
    return this.#conflicts.get(id);
  }

  @Post(':id/restore')
  @HttpCode(200)
  restore(
    @Param('id') id: string,
    @Headers('if-match') ifMatch: string | undefined,
    @Req() request: FastifyRequest,
  ): Promise<object> {
    checkNoQuery(request);
    if (isObject(request.body)) checkFields(request.body, '', []);
    return this.#conflicts.restore(id, ifMatch ?? null);
  }

  @Post(':id/resolve')
  @HttpCode(200)
  resolve(
    @Param('id') id: string,
    @Headers('if-match') ifMatch: string | undefined,
    @Req() request: FastifyRequest,
  ): Promise<object> {
    checkNoQuery(request);
    return this.#conflicts.resolve(id, request.body, ifMatch ?? null);
  }
}
