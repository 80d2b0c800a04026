import { Controller, Get, Inject, Param } from '@nestjs/common';
import { ShardOperations } from '../operations/shards.ts';

@Controller('v1/cluster/shards')
export class ShardsController {
  readonly #shards: ShardOperations;

  constructor(@Inject(ShardOperations) shards: ShardOperations) {
    this.#shards = shards;
  }

  @Get(':collection')
  async list(@Param('collection') collection: string): Promise<object> {
    return { items: await this.#shards.list(collection) };
  }

  @Get(':collection/of/:key')
  of(@Param('collection') collection: string, @Param('key') key: string): Promise<object> {
    return this.#shards.of(collection, key);
  }
}
