import { Controller, Get, Headers, Inject, Put, Req } from '@nestjs/common';
import type { FastifyRequest } from 'fastify';
import { ThrottleOperations } from '../operations/throttle.ts';
import { bodyOf, checkNoQuery, principalOf } from './call.ts';

@Controller('v1/replication/throttle')
export class ThrottleController {
  readonly #throttle: ThrottleOperations;

  constructor(@Inject(ThrottleOperations) throttle: ThrottleOperations) {
    this.#throttle = throttle;
  }

  @Get()
  get(@Req() request: FastifyRequest): Promise<object> {
    checkNoQuery(request);
    return this.#throttle.get();
  }

  @Put()
  set(@Req() request: FastifyRequest, @Headers('if-match') ifMatch: string | undefined): Promise<object> {
    checkNoQuery(request);
    return this.#throttle.set(bodyOf(request), ifMatch ?? null, principalOf(request));
  }
}
