import { Controller, Delete, Get, HttpCode, Inject, Param, Patch, Post, Req, Res } from '@nestjs/common';
import type { FastifyReply, FastifyRequest } from 'fastify';
import { VectorOperations } from '../operations/vectors.ts';
import { bodyOf, patchCall, readCall, writeCall } from './call.ts';
import { showReads, showWrite } from './results.ts';

@Controller('v1/collections/:collection')
export class VectorsController {
  readonly #vectors: VectorOperations;

  constructor(@Inject(VectorOperations) vectors: VectorOperations) {
    this.#vectors = vectors;
  }

  @Post('vectors')
  @HttpCode(200)
  async upsert(@Param('collection') collection: string, @Req() request: FastifyRequest): Promise<object> {
    return showWrite(await this.#vectors.upsert(collection, bodyOf(request), writeCall(request)));
  }

  @Post('vectors/delete')
  @HttpCode(200)
  async removeAll(@Param('collection') collection: string, @Req() request: FastifyRequest): Promise<object> {
    return showWrite(await this.#vectors.removeAll(collection, bodyOf(request), writeCall(request)));
  }

  @Post('vectors/get')
  @HttpCode(200)
  async getAll(@Param('collection') collection: string, @Req() request: FastifyRequest): Promise<object> {
    return showReads(await this.#vectors.getAll(collection, bodyOf(request), readCall(request)));
  }

  @Get('vectors/:id')
  async get(
    @Param('collection') collection: string,
    @Param('id') id: string,
    @Req() request: FastifyRequest,
    @Res({ passthrough: true }) reply: FastifyReply,
  ): Promise<object> {
    const found = await this.#vectors.get(collection, id, readCall(request));
    if (found.version !== null) reply.header('etag', `"${found.version.text}"`);
    return found;
  }

  @Patch('vectors/:id')
  async patch(
    @Param('collection') collection: string,
    @Param('id') id: string,
    @Req() request: FastifyRequest,
    @Res({ passthrough: true }) reply: FastifyReply,
  ): Promise<object> {
    const result = await this.#vectors.patch(collection, id, bodyOf(request), patchCall(request));
    reply.header('etag', `"${result.version.text}"`);
    return result;
  }

  @Delete('vectors/:id')
  async remove(
    @Param('collection') collection: string,
    @Param('id') id: string,
    @Req() request: FastifyRequest,
  ): Promise<object> {
    return this.#vectors.remove(collection, id, writeCall(request));
  }

  @Post('search')
  @HttpCode(200)
  search(@Param('collection') collection: string, @Req() request: FastifyRequest): Promise<object> {
    return this.#vectors.search(collection, bodyOf(request), readCall(request));
  }
}
