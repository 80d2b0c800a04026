/** From ONE to the level that was asked for: what a coordinator has committed goes to the other replicas, and each result learns who has it. */
import { PgquorumError } from '../errors/error.ts';
import type { KeyTexts } from '../changelog/change.ts';
import type { CollectionRow } from '../collections/catalog.pg.ts';
import type { CollectionDirectory } from '../collections/directory.pg.ts';
import type { Deadline } from '../postgres/deadline.ts';
import { remainingMs } from '../postgres/session.pg.ts';
import type { Node, Nodes } from '../topology/nodes.pg.ts';
import type { VersionView } from '../versioning/version-view.ts';
import type { Dot, ShardNumber } from '../versioning/version.ts';
import type { FanOut, Spread, SpreadItem } from './fan-out.pg.ts';
import { isMet, reachedBy, requiredOf, type Consistency } from './levels.ts';
import { holdingOf, type TransactionOptions } from './transaction.pg.ts';

export interface LevelOptions {
  readonly level: Consistency;
  /** What becomes of a write that is committed and not acknowledged by enough replicas in time. */
  readonly onTimeout: 'fail' | 'degrade';
}

/** What a write did, as far as its coordinator knows. */
export interface Done {
  readonly id: string;
  readonly shard: ShardNumber;
  readonly dots: readonly Dot[];
  /** Name of the node that committed it. */
  readonly coordinator: string;
  /** By this very request, and not by one that it repeats. */
  readonly fresh: boolean;
}

export interface Strength {
  readonly acks: readonly string[];
  /** The level that was reached, at most the one that was asked for. */
  readonly reached: Consistency;
  readonly met: boolean;
  readonly required: number;
}

export interface StrengthenContext extends LevelOptions {
  readonly collection: CollectionRow;
  readonly deadline: Deadline;
}

export const keyOf = ({ table }: CollectionRow, id: string): KeyTexts =>
  table.key.length === 1 ? [id] : (JSON.parse(id) as string[]);

export class Strengthener {
  readonly #nodes: Nodes;
  readonly #fanOut: FanOut;
  readonly #directory: CollectionDirectory;

  constructor(options: {
    readonly nodes: Nodes;
    readonly fanOut: FanOut;
    readonly directory: CollectionDirectory;
  }) {
    this.#nodes = options.nodes;
    this.#directory = options.directory;
    this.#fanOut = options.fanOut;
  }

  /** Before anything is written. */
  lacking({ collection, level }: StrengthenContext, shard: ShardNumber): PgquorumError | null {
    if (level === 'one' || this.#fanOut.isPossible(collection, shard, level)) return null;
    const required = requiredOf(level, this.#fanOut.setsOf(collection, shard));
    return new PgquorumError(
      'replicas_unavailable',
      `fewer replicas of the shard are up than the ${required} that consistency=${level} needs; nothing was written`,
    );
  }

  /** What the coordinator has to agree with when it writes. */
  believedBy(
    { collection, level }: StrengthenContext,
    items: readonly { readonly shard: ShardNumber }[],
  ): Pick<TransactionOptions, 'holding' | 'members'> {
    const counts = level !== 'one' && collection.map === undefined;
    return {
      holding: holdingOf(collection, items),
      members: counts ? this.#nodes.all.map(({ name }) => name).toSorted() : null,
    };
  }

  /** The collection as it is now, after a node has refused what was believed of it or of the members. */
  async lookAgain({ collection, deadline }: StrengthenContext): Promise<CollectionRow> {
    await this.#nodes.lookAgain(deadline);
    return this.#directory.refreshSoon(collection.name, deadline);
  }

  /** After an error that a changed collection would explain. */
  forget(name: string): void {
    this.#directory.forget(name);
  }

  async strengthen(context: StrengthenContext, done: readonly Done[]): Promise<Map<string, Strength>> {
    const known = new Map<string, Spread>(
      done.map(({ id, shard, coordinator, fresh }) => [
        id,
        // Beyond ONE it is asked who has what is repeated; at ONE it is enough that somebody remembers it.
        {
          acks: fresh || context.level === 'one' ? [coordinator] : [],
          sets: this.#fanOut.setsOf(context.collection, shard),
        },
      ]),
    );
    if (context.level !== 'one') {
      const byCoordinator = Map.groupBy(done, (one) => `${one.coordinator} ${one.fresh}`);
      await Promise.all(
        [...byCoordinator.values()].map(async (items) => {
          for (const [id, spread] of await this.#spread(context, items)) known.set(id, spread);
        }),
      );
    }
    return new Map(done.map((one) => [one.id, strengthOf(context.level, one, known.get(one.id)!)]));
  }

  /** From the coordinator; where that has gone, from another node that has it. */
  async #spread(context: StrengthenContext, items: readonly Done[]): Promise<Map<string, Spread>> {
    const { collection, level, deadline } = context;
    const { coordinator, fresh } = items[0]!;
    const found = new Map<string, Spread>();
    let left = items;
    for (const source of this.#sources(context, items)) {
      const parts = left.map(({ id, shard, dots }): SpreadItem => ({
        id,
        key: keyOf(collection, id),
        shard,
        dots,
        held: found.get(id)?.acks ?? (fresh ? [coordinator] : []),
      }));
      const written = fresh && source.name === coordinator;
      const spread = await this.#fanOut.spread(source, parts, { collection, level, deadline, written });
      for (const [id, one] of spread) found.set(id, one);
      left = left.filter(({ id }) => !isMet(level, found.get(id)!.sets, new Set(found.get(id)!.acks)));
      if (left.length === 0 || remainingMs(deadline) <= 0 || deadline.signal?.aborted === true) break;
    }
    return found;
  }

  #sources({ collection }: StrengthenContext, items: readonly Done[]): Node[] {
    const { coordinator, shard } = items[0]!;
    const others = this.#fanOut
      .setsOf(collection, shard)
      .flat()
      .filter((name) => name !== coordinator);
    const ofOthers = this.#nodes.inOrder([...new Set(others)]).filter((node) => node.isUp);
    const first = this.#nodes.byName(coordinator);
    return first === undefined ? ofOthers : [first, ...ofOthers];
  }
}

function strengthOf(level: Consistency, { coordinator }: Done, { acks, sets }: Spread): Strength {
  const nodes = new Set(acks);
  const met = isMet(level, sets, nodes);
  return {
    acks: acks.length > 0 ? acks : [coordinator],
    met,
    reached: met ? level : (reachedBy(sets, nodes) ?? 'one'),
    required: requiredOf(level, sets),
  };
}

/** Of what was written and is not on enough replicas yet. */
export interface Receipt {
  readonly id: string;
  readonly version: VersionView;
  readonly acks: readonly string[];
  readonly required: number;
  readonly stands: true;
  readonly retrySafe: boolean;
}

export const notMet = (level: Consistency, receipt: Receipt): PgquorumError =>
  new PgquorumError(
    'consistency_not_met',
    `${receipt.acks.length} of ${receipt.required} replicas acknowledged it in time at consistency=${level}; it stands and will spread`,
    { extra: { receipt } },
  );
