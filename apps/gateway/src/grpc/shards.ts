/** The methods about shards. */
import type { ShardOperations } from '../operations/shards.ts';

const withoutNull = <T extends { readonly primary: string | null }>(view: T) => ({
  ...view,
  primary: view.primary ?? '',
});

export const shardMethods = (shards: ShardOperations) => ({
  ListShards: async ({ collection = '' }: { collection?: string }) => ({
    items: (await shards.list(collection)).map(withoutNull),
  }),
  FindShard: async ({ collection = '', key = '' }: { collection?: string; key?: string }) =>
    withoutNull(await shards.of(collection, key)),
});
