import { Controller, Delete, Inject, Param, Post, Query, Req, Res } from '@nestjs/common';
import type { FastifyReply, FastifyRequest } from 'fastify';
import { parseRemove } from '#core/membership/replica-request.ts';
import { checkFields, invalid, isObject } from '#core/requests/fields.ts';
import { ReplicaOperations } from '../operations/replicas.ts';
import { accepted } from './accepted.ts';
import { bodyOf, checkNoQuery } from './call.ts';

@Controller('v1/replication/replicas')
export class ReplicasController {
  readonly #replicas: ReplicaOperations;

  constructor(@Inject(ReplicaOperations) replicas: ReplicaOperations) {
    this.#replicas = replicas;
  }

  @Post()
  async add(
    @Req() request: FastifyRequest,
    @Res({ passthrough: true }) reply: FastifyReply,
  ): Promise<object> {
    checkNoQuery(request);
    return accepted(reply, await this.#replicas.add(bodyOf(request)));
  }

  @Delete(':node')
  async remove(
    @Param('node') node: string,
    @Query() query: Record<string, unknown>,
    @Res({ passthrough: true }) reply: FastifyReply,
  ): Promise<object> {
    return accepted(reply, await this.#replicas.remove(node, parseRemove(query)));
  }

  @Post(':node/sync')
  async sync(
    @Param('node') node: string,
    @Req() request: FastifyRequest,
    @Res({ passthrough: true }) reply: FastifyReply,
  ): Promise<object> {
    checkNoQuery(request);
    if (isObject(request.body)) checkFields(request.body, '', []);
    else if (request.body !== undefined) throw invalid('the body: must be an object, or left out');
    return accepted(reply, await this.#replicas.sync(node));
  }
}
