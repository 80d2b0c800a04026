import { Controller, Get, Inject } from '@nestjs/common';
import { ClusterOperations } from '../operations/cluster.ts';

@Controller('v1')
export class ClusterController {
  readonly #cluster: ClusterOperations;

  constructor(@Inject(ClusterOperations) cluster: ClusterOperations) {
    this.#cluster = cluster;
  }

  @Get('cluster/nodes')
  async nodes(): Promise<object> {
    return { items: await this.#cluster.nodes() };
  }

  @Get('cluster/health')
  health(): Promise<object> {
    return this.#cluster.health();
  }

  @Get('replication/lag')
  lag(): Promise<object> {
    return this.#cluster.lag();
  }

  @Get('replication/replicas')
  async replicas(): Promise<object> {
    return { items: await this.#cluster.replicas() };
  }
}
