import { Controller, Get, Inject, Param, Post, Req, Res } from '@nestjs/common';
import type { FastifyReply, FastifyRequest } from 'fastify';
import { ShardOperations } from '../operations/shards.ts';
import { accepted } from './accepted.ts';
import { bodyOf, checkNoQuery } from './call.ts';

@Controller('v1/cluster/shards')
export class ShardsController {
  readonly #shards: ShardOperations;

  constructor(@Inject(ShardOperations) shards: ShardOperations) {
    this.#shards = shards;
  }

  @Get(':collection')
  async list(@Param('collection') collection: string, @Req() request: FastifyRequest): Promise<object> {
    checkNoQuery(request);
    return { items: await this.#shards.list(collection) };
  }

  @Post(':collection/:shard/move')
  async move(
    @Param('collection') collection: string,
    @Param('shard') shard: string,
    @Req() request: FastifyRequest,
    @Res({ passthrough: true }) reply: FastifyReply,
  ): Promise<object> {
    checkNoQuery(request);
    return accepted(reply, await this.#shards.move(collection, shard, bodyOf(request)));
  }

  @Get(':collection/of/:key')
  of(
    @Param('collection') collection: string,
    @Param('key') key: string,
    @Req() request: FastifyRequest,
  ): Promise<object> {
    checkNoQuery(request);
    return this.#shards.of(collection, key);
  }
}
