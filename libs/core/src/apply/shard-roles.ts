/**
 * Which changes a node passes over: those of shards that are not its own. A change is passed over without a look at its key, by what this session knew of the node's
 * roles, and in a transaction that finds the roles to be just that and holds them to its end: so no change is passed over after the commit of another role. Pure.
 */
import type { DataChange } from '../changelog/change.ts';
import { PgquorumError } from '../errors/error.ts';
import type { ShardRole } from '../shards/entry.ts';
import { ShardRolesChanged } from './outcomes.ts';

/** What a session last read of its node's roles: only that it may be old is ever relied on. */
export class KnownRoles {
  readonly #roles = new Map<string, Map<number, ShardRole>>();

  /** `asked` shards that have no role are no shards of the collection, or no longer. */
  note(collection: string, asked: readonly number[], roles: ReadonlyMap<number, ShardRole>): void {
    let known = this.#roles.get(collection);
    if (known === undefined) this.#roles.set(collection, (known = new Map()));
    for (const shard of asked) {
      const role = roles.get(shard);
      if (role === undefined) known.delete(shard);
      else known.set(shard, role);
    }
  }

  /** The changes to apply, and the shards of those that are passed over. */
  split(
    collection: string,
    changes: readonly DataChange[],
  ): { readonly applied: readonly DataChange[]; readonly passed: ReadonlySet<number> } {
    const known = this.#roles.get(collection);
    const passed = new Set<number>();
    if (known === undefined) return { applied: changes, passed };
    for (const { shard } of changes) if (known.get(shard) === 'none') passed.add(shard);
    return passed.size === 0
      ? { applied: changes, passed }
      : { applied: changes.filter(({ shard }) => !passed.has(shard)), passed };
  }
}

/** What was passed over has to be what this node does not hold. */
export function checkPassed(
  collection: string,
  roles: ReadonlyMap<number, ShardRole>,
  passed: Iterable<number>,
): void {
  for (const shard of passed)
    if (roles.get(shard) !== 'none') throw new ShardRolesChanged(`shard ${shard} of ${collection}`);
}

/** What is applied has to be what it holds. */
export function checkHeld(
  collection: string,
  roles: ReadonlyMap<number, ShardRole>,
  applied: Iterable<{ readonly shard: number }>,
): void {
  for (const { shard } of applied) {
    const role = roles.get(shard);
    if (role === undefined)
      throw new PgquorumError('stale_shard_map', `collection ${collection} has no shard ${shard} here`);
    if (role === 'none') throw new ShardRolesChanged(`shard ${shard} of ${collection}`);
  }
}
