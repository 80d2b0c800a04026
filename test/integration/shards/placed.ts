/** The full comparison of a collection with a shard map: each key is on exactly the replicas of its shard, with the same row and version, and all masters agree who they are. */
import type pg from 'pg';
import { shardOf } from '#core/placement/partitioning.ts';
import { readMap } from '#core/shards/map.pg.ts';
import type { ShardMap } from '#core/shards/entry.ts';
import { eventually } from '#core/testing/wait.process.ts';
import { withClient } from '../convergence/states.ts';

export interface PlacedMaster {
  readonly name: string;
  readonly url: string;
}

interface Held {
  readonly map: ShardMap;
  readonly roles: ReadonlyMap<number, string>;
  /** Key -> everything about it. */
  readonly states: ReadonlyMap<string, string>;
}

async function readHeld(client: pg.Client, collection: string): Promise<Held> {
  const roles = await client.query<{ shard: number; role: string }>(
    'select shard, role from pgquorum.shard_role where collection = $1',
    [collection],
  );
  const { rows } = await client.query<{ id: string; state: string }>(
    `select id, (v.rank, v.epoch, v.hlc, v.origin, v.counter, v.clock, coalesce(v.seen, v.clock), v.deleted, v.shard, t.embedding, t.metadata)::text as state
     from pgquorum.version_${collection} v full join public.${collection} t using (id)`,
  );
  return {
    map: await readMap(client, collection),
    roles: new Map(roles.rows.map(({ shard, role }) => [shard, role])),
    states: new Map(rows.map(({ id, state }) => [id, state])),
  };
}

/** What is not as it should be. */
function misplaced(
  held: ReadonlyMap<string, Held>,
  definition: { readonly shards: number },
): { readonly wrong: string[]; readonly states: ReadonlyMap<string, string> } {
  const [first] = held.values();
  const wrong: string[] = [];
  for (const [name, { map, roles }] of held) {
    if (JSON.stringify(map) !== JSON.stringify(first!.map)) wrong.push(`${name} has another map`);
    for (const { shard, replicas, next } of map) {
      const role = replicas.includes(name) ? 'replica' : 'none';
      if (next !== null || roles.get(shard) !== role)
        wrong.push(
          `${name} is ${roles.get(shard)} of shard ${shard} (${replicas.join()}, next ${next?.join()})`,
        );
    }
  }
  const states = new Map<string, string>();
  for (const key of new Set([...held.values()].flatMap((one) => [...one.states.keys()]))) {
    const { replicas } = first!.map[shardOf(key, definition)]!;
    const found = [...held].flatMap(([name, one]) => (one.states.has(key) ? [name] : []));
    if (found.toSorted().join() !== replicas.toSorted().join())
      wrong.push(`${key} of ${replicas.join()} is on ${found.join()}`);
    const different = new Set(replicas.map((name) => held.get(name)!.states.get(key)));
    if (different.size > 1) wrong.push(`${key} differs: ${[...different].join(' / ')}`);
    states.set(key, held.get(replicas[0]!)!.states.get(key) ?? '');
  }
  return { wrong, states };
}

/** Key -> its state, once nothing is anywhere but where it belongs. */
export async function placedExactly(
  masters: readonly PlacedMaster[],
  collection: string,
  definition: { readonly shards: number },
): Promise<ReadonlyMap<string, string>> {
  let last: string[] = [];
  return eventually(
    `each key of ${collection} is on the replicas of its shard alone`,
    async () => {
      const held = new Map<string, Held>();
      for (const master of masters)
        held.set(master.name, await withClient(master, (client) => readHeld(client, collection)));
      const { wrong, states } = misplaced(held, definition);
      last = wrong;
      return wrong.length === 0 ? states : null;
    },
    { withinMs: 120_000, everyMs: 200 },
  ).catch((cause: unknown) => {
    throw new Error(`${(cause as Error).message}: ${last.slice(0, 8).join('; ')}`, { cause });
  });
}
