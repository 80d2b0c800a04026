/** Which nodes have to have a shard, as this process believes, and how a node is made to refuse who believes in something else. */
import type pg from 'pg';
import type { CollectionRow } from '../collections/catalog.pg.ts';
import type { Nodes } from '../topology/nodes.pg.ts';
import type { ShardNumber } from '../versioning/version.ts';
import type { ReplicaSets } from './levels.ts';
import { statement } from './statements.ts';

/** What was believed, for one statement in the transaction that relies on it. */
export type Belief =
  | {
      readonly kind: 'shards';
      readonly collection: string;
      readonly shards: readonly number[];
      readonly epochs: readonly number[];
    }
  | { readonly kind: 'members'; readonly names: readonly string[] };

/** Without a map every node holds everything, but for those that are being filled. */
export function replicaSets({ map }: CollectionRow, shard: ShardNumber, nodes: Nodes): ReplicaSets {
  if (map === undefined) return [nodes.all.filter((node) => !node.isJoining).map(({ name }) => name)];
  const entry = map.find((one) => one.shard === shard);
  if (entry === undefined) return [[]];
  return entry.next === null ? [entry.replicas] : [entry.replicas, entry.next];
}

export function beliefAbout(
  { name, map }: CollectionRow,
  shards: Iterable<ShardNumber>,
  nodes: Nodes,
): Belief {
  if (map === undefined) return { kind: 'members', names: nodes.all.map((node) => node.name).toSorted() };
  const wanted = [...new Set(shards)].toSorted((a, b) => a - b);
  return {
    kind: 'shards',
    collection: name,
    shards: wanted,
    epochs: wanted.map((shard) => map.find((entry) => entry.shard === shard)?.epoch ?? -1),
  };
}

const holdersStatement = statement('select pgquorum.check_holders($1, $2, $3)');
const membersStatement = statement('select pgquorum.check_members($1)');

/** Fails with PQ020 (isStaleMap) where the node knows better, and keeps it so to the end of the transaction. */
export const checkBelief = (client: Pick<pg.ClientBase, 'query'>, belief: Belief): Promise<unknown> =>
  belief.kind === 'members'
    ? client.query({ ...membersStatement, values: [belief.names] })
    : client.query({ ...holdersStatement, values: [belief.collection, belief.shards, belief.epochs] });
