import { Controller, Get, Inject, Req } from '@nestjs/common';
import type { FastifyRequest } from 'fastify';
import { ClusterOperations } from '../operations/cluster.ts';
import { checkNoQuery } from './call.ts';

@Controller('v1')
export class ClusterController {
  readonly #cluster: ClusterOperations;

  constructor(@Inject(ClusterOperations) cluster: ClusterOperations) {
    this.#cluster = cluster;
  }

  @Get('cluster/nodes')
  async nodes(@Req() request: FastifyRequest): Promise<object> {
    checkNoQuery(request);
    return { items: await this.#cluster.nodes() };
  }

  @Get('cluster/health')
  health(@Req() request: FastifyRequest): Promise<object> {
    checkNoQuery(request);
    return this.#cluster.health();
  }

  @Get('replication/lag')
  lag(@Req() request: FastifyRequest): Promise<object> {
    checkNoQuery(request);
    return this.#cluster.lag();
  }

  @Get('replication/replicas')
  async replicas(@Req() request: FastifyRequest): Promise<object> {
    checkNoQuery(request);
    return { items: await this.#cluster.replicas() };
  }
}
