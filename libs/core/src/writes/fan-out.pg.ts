/**
 * The second half of a write at QUORUM or ALL, and of a read's repair: whole states go from the node that has them to the other replicas, until enough of those hold
 * them. An acknowledgement means that what a replica has seen of the key covers the write, durably.
 *
 * Invariants, and what would break them:
 * - only a replica counts that believed in the same sets of replicas within its own transaction (replica-sets.pg.ts). One that refuses makes us look again: the sets may
 *   be others by now, while those that have it keep it: a state leaves a node only when all replicas have it;
 * - what a node acknowledged it has, whatever happens to the request: a request that ends too early only knows less;
 * - a write stands as soon as its coordinator has committed it. Nothing here takes it back.
 */
import type { CollectionRow } from '../collections/catalog.pg.ts';
import type { CollectionDirectory } from '../collections/directory.pg.ts';
import { keyText, type KeyTexts, type WriteChange } from '../changelog/change.ts';
import type { Logger } from '../observability/logger.process.ts';
import type { Deadline } from '../postgres/deadline.ts';
import { isStaleMap } from '../postgres/request-error.ts';
import { remainingMs } from '../postgres/session.pg.ts';
import type { Node, Nodes } from '../topology/nodes.pg.ts';
import { covers } from '../versioning/clock.ts';
import { dotText, type Dot, type ShardNumber } from '../versioning/version.ts';
import { StateDelivery } from './delivery.pg.ts';
import { everyReplica, isMet, type Consistency, type ReplicaSets } from './levels.ts';
import { beliefAbout, replicaSets } from './replica-sets.pg.ts';
import { WholeStates } from './whole-states.pg.ts';

export interface SpreadItem {
  /** Text of the key. */
  readonly id: string;
  readonly key: KeyTexts;
  readonly shard: ShardNumber;
  /** The writes that have to be covered; none = whatever the source has. */
  readonly dots: readonly Dot[];
  /** Nodes that are known to have it. */
  readonly held: readonly string[];
}

export interface SpreadOptions {
  /** The source has checked the belief itself when it wrote; else it is asked in the transaction that reads. */
  readonly written: boolean;
  readonly collection: CollectionRow;
  readonly level: Consistency;
  readonly deadline: Deadline;
}

export interface Spread {
  /** The nodes that have it. */
  readonly acks: readonly string[];
  readonly sets: ReplicaSets;
}

export interface FanOutOptions {
  readonly nodes: Nodes;
  readonly directory: CollectionDirectory;
  readonly sessionsMax: number;
  readonly logger: Logger;
}

const staleTriesMax = 20;

export class FanOut {
  readonly #options: FanOutOptions;
  readonly #deliveries = new Map<Node, StateDelivery>();
  readonly states = new WholeStates();

  constructor(options: FanOutOptions) {
    this.#options = options;
    options.nodes.onChange(() => this.#letGo());
  }

  setsOf(collection: CollectionRow, shard: ShardNumber): ReplicaSets {
    return replicaSets(collection, shard, this.#options.nodes);
  }

  /** Can the level be reached by the nodes that are up? */
  isPossible(collection: CollectionRow, shard: ShardNumber, level: Consistency): boolean {
    const sets = this.setsOf(collection, shard);
    const up = everyReplica(sets).filter((name) => this.#options.nodes.byName(name)?.isUp === true);
    return isMet(level, sets, new Set(up));
  }

  /** Takes the states of the items from `source` to the other replicas. Ends when all items have the level, when nothing more can come, or with the deadline. Never rejects. */
  async spread(
    source: Node,
    items: readonly SpreadItem[],
    options: SpreadOptions,
  ): Promise<Map<string, Spread>> {
    const { table } = options.collection;
    let states: Map<string, WriteChange>;
    try {
      states = await this.states.read(source, {
        table,
        keys: items.map(({ key }) => key),
        durable: new Set(items.flatMap(({ dots }) => dots.map(dotText))),
        deadline: options.deadline,
        belief: options.written
          ? null
          : beliefAbout(
              options.collection,
              items.map(({ shard }) => shard),
              this.#options.nodes,
            ),
      });
    } catch (cause) {
      this.#options.logger.debug(
        { err: cause, node: source.name },
        'what was written can not be read to send it on',
      );
      states = new Map();
    }
    return this.#sendOn(source, items, { ...options, states });
  }

  /** The same with the states that were read there. */
  async #sendOn(
    source: Node,
    items: readonly SpreadItem[],
    options: SpreadOptions & { readonly states: ReadonlyMap<string, WriteChange> },
  ): Promise<Map<string, Spread>> {
    const round = new Round(items, options);
    round.countSource(source.name);
    let collection = options.collection;
    for (let staleTries = 0; ; staleTries += 1) {
      round.lookAt((shard) => this.setsOf(collection, shard));
      const now = collection;
      const stale = await round.run((node, parts) => this.#sendLogged(node, now, parts, options.deadline), {
        source: source.name,
        targets: this.#options.nodes,
      });
      if (!stale || staleTries >= staleTriesMax || remainingMs(options.deadline) <= 0) return round.result();
      collection = await this.#options.nodes
        .lookAgain(options.deadline)
        .then(() => this.#options.directory.refreshSoon(now.name, options.deadline))
        .catch(() => now); // the nodes that know are away: what was believed is tried again
    }
  }

  async #sendLogged(...[node, collection, states, deadline]: Parameters<FanOut['sendTo']>): Promise<void> {
    try {
      await this.sendTo(node, collection, states, deadline);
    } catch (cause) {
      this.#options.logger.debug(
        { err: cause, node: node.name, collection: collection.name },
        'a replica did not take what was written',
      );
      throw cause;
    }
  }

  /** Takes states to one node. */
  sendTo(
    node: Node,
    collection: CollectionRow,
    states: readonly WriteChange[],
    deadline: Deadline,
  ): Promise<void> {
    const belief = beliefAbout(
      collection,
      states.map(({ shard }) => shard),
      this.#options.nodes,
    );
    return this.#deliveryTo(node).send({ changes: states, belief, deadline });
  }

  #deliveryTo(node: Node): StateDelivery {
    let delivery = this.#deliveries.get(node);
    if (delivery === undefined) {
      delivery = new StateDelivery({
        target: node.address,
        application: 'pgquorum gateway fan-out',
        sessionsMax: this.#options.sessionsMax,
        logger: this.#options.logger,
        onLost: () => node.noticeLoss(),
        whenLost: (cut) => node.whenLost(cut),
      });
      this.#deliveries.set(node, delivery);
    }
    return delivery;
  }

  /** Of nodes that were removed. */
  #letGo(): void {
    for (const [node, delivery] of this.#deliveries)
      if (!this.#options.nodes.all.includes(node)) {
        this.#deliveries.delete(node);
        void delivery.close();
      }
  }

  async close(): Promise<void> {
    await Promise.all([...this.#deliveries.values()].map((delivery) => delivery.close()));
  }
}

interface ItemState {
  readonly item: SpreadItem;
  readonly acked: Set<string>;
  sets: ReplicaSets;
}

/** The items of one request, and who has them. */
class Round {
  readonly #items: readonly ItemState[];
  readonly #options: SpreadOptions & { readonly states: ReadonlyMap<string, WriteChange> };

  constructor(
    items: readonly SpreadItem[],
    options: SpreadOptions & { readonly states: ReadonlyMap<string, WriteChange> },
  ) {
    this.#options = options;
    this.#items = items.map((item) => ({ item, acked: new Set(item.held), sets: [] }));
  }

  lookAt(setsOf: (shard: ShardNumber) => ReplicaSets): void {
    for (const one of this.#items) one.sets = setsOf(one.item.shard);
  }

  countSource(name: string): void {
    for (const one of this.#items) if (this.#stateOf(one) !== undefined) one.acked.add(name);
  }

  #isMet({ sets, acked }: ItemState): boolean {
    return isMet(this.#options.level, sets, acked);
  }

  #stateOf({ item }: ItemState): WriteChange | undefined {
    const state = this.#options.states.get(keyText(item.key));
    if (state === undefined) return undefined;
    const seen = state.seen ?? state.version.clock;
    return item.dots.every((dot) => covers(seen, dot)) ? state : undefined;
  }

  /** Sends what is lacking. True when somebody refused the sets. */
  async run(
    send: (node: Node, states: readonly WriteChange[]) => Promise<void>,
    { source, targets }: { readonly source: string; readonly targets: Nodes },
  ): Promise<boolean> {
    const byNode = new Map<string, ItemState[]>();
    for (const one of this.#items) {
      if (this.#isMet(one) || this.#stateOf(one) === undefined) continue;
      for (const name of everyReplica(one.sets)) {
        if (name === source || one.acked.has(name)) continue;
        const items = byNode.get(name);
        if (items === undefined) byNode.set(name, [one]);
        else items.push(one);
      }
    }
    let stale = false;
    const lacking = new Set(this.#items.filter((one) => !this.#isMet(one)));
    const sent = [...byNode].flatMap(([name, items]) => {
      const node = targets.byName(name);
      if (node?.isUp !== true) return [];
      // Each by itself: what is in the way of one is not in the way of the others.
      return items.map((one) =>
        send(node, [this.#stateOf(one)!]).then(
          () => {
            one.acked.add(name);
            if (this.#isMet(one)) lacking.delete(one);
          },
          (cause: unknown) => {
            if (isStaleMap(cause)) stale = true;
          },
        ),
      );
    });
    await this.#enough(sent, lacking);
    return stale && lacking.size > 0;
  }

  /** Resolves when all items have the level, when all answers are there, or when the time is over. */
  async #enough(sent: readonly Promise<void>[], lacking: ReadonlySet<ItemState>): Promise<void> {
    const { deadline } = this.#options;
    let timer: NodeJS.Timeout | undefined;
    let onAbort: (() => void) | undefined;
    await new Promise<void>((resolve) => {
      if (lacking.size === 0) return resolve();
      void Promise.all(sent).then(() => resolve());
      for (const one of sent)
        void one.then(() => {
          if (lacking.size === 0) resolve();
        });
      timer = setTimeout(resolve, remainingMs(deadline));
      onAbort = () => resolve();
      deadline.signal?.addEventListener('abort', onAbort, { once: true });
      if (deadline.signal?.aborted === true) resolve();
    });
    clearTimeout(timer);
    if (onAbort) deadline.signal?.removeEventListener('abort', onAbort);
  }

  result(): Map<string, Spread> {
    return new Map(this.#items.map(({ item, acked, sets }) => [item.id, { acks: [...acked], sets }]));
  }
}
