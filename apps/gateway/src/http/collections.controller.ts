import { Controller, Delete, Get, HttpCode, Inject, Param, Patch, Post, Put, Req, Res } from '@nestjs/common';
import type { FastifyReply, FastifyRequest } from 'fastify';
import { CollectionOperations } from '../operations/collections.ts';
import { accepted } from './accepted.ts';
import { bodyOf, checkNoQuery, identityOf } from './call.ts';

@Controller('v1/collections')
export class CollectionsController {
  readonly #collections: CollectionOperations;

  constructor(@Inject(CollectionOperations) collections: CollectionOperations) {
    this.#collections = collections;
  }

  @Get()
  async list(@Req() request: FastifyRequest): Promise<object> {
    checkNoQuery(request);
    const { rights } = identityOf(request);
    return { items: (await this.#collections.list()).filter(({ name }) => rights.knows(name)) };
  }

  @Get(':name')
  get(@Param('name') name: string, @Req() request: FastifyRequest): Promise<object> {
    checkNoQuery(request);
    return this.#collections.get(name);
  }

  @Put(':name')
  async put(
    @Param('name') name: string,
    @Req() request: FastifyRequest,
    @Res({ passthrough: true }) reply: FastifyReply,
  ): Promise<object> {
    checkNoQuery(request);
    const { created, collection } = await this.#collections.put(name, bodyOf(request));
    reply.code(created ? 201 : 200);
    return collection;
  }

  @Patch(':name')
  async change(@Param('name') name: string, @Req() request: FastifyRequest): Promise<object> {
    checkNoQuery(request);
    return this.#collections.change(name, bodyOf(request));
  }

  @Post(':name/attach')
  async attach(
    @Param('name') name: string,
    @Req() request: FastifyRequest,
    @Res({ passthrough: true }) reply: FastifyReply,
  ): Promise<object> {
    checkNoQuery(request);
    const { job, created, warnings } = await this.#collections.attach(name, bodyOf(request));
    return { ...accepted(reply, job), created, warnings };
  }

  @Post(':name/ddl')
  async ddl(
    @Param('name') name: string,
    @Req() request: FastifyRequest,
    @Res({ passthrough: true }) reply: FastifyReply,
  ): Promise<object> {
    checkNoQuery(request);
    return accepted(reply, await this.#collections.ddl(name, bodyOf(request)));
  }

  @Post(':name/detach')
  @HttpCode(204)
  async detach(@Param('name') name: string, @Req() request: FastifyRequest): Promise<void> {
    checkNoQuery(request);
    await this.#collections.detach(name);
  }

  @Delete(':name')
  @HttpCode(204)
  async drop(@Param('name') name: string, @Req() request: FastifyRequest): Promise<void> {
    checkNoQuery(request);
    await this.#collections.drop(name);
  }
}
