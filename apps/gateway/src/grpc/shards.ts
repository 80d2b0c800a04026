/** The methods about shards. */
import type { ShardOperations } from '../operations/shards.ts';
import { showJob } from './job-message.ts';

const withoutNull = <T extends { readonly primary: string | null }>(view: T) => ({
  ...view,
  primary: view.primary ?? '',
});

interface MoveMessage {
  readonly collection?: string;
  readonly shard?: number;
  readonly from?: string;
  readonly to?: string;
}

export const shardMethods = (shards: ShardOperations) => ({
  ListShards: async ({ collection = '' }: { collection?: string }) => ({
    items: (await shards.list(collection)).map(withoutNull),
  }),
  MoveShard: async ({ collection = '', shard = 0, from = '', to = '' }: MoveMessage) =>
    showJob(await shards.move(collection, String(shard), { from, to })),
  FindShard: async ({ collection = '', key = '' }: { collection?: string; key?: string }) =>
    withoutNull(await shards.of(collection, key)),
});
