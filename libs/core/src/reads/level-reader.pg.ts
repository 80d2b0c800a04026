/**
 * Reads by id at QUORUM and ALL, with repair.
 *
 * What is promised: an answer holds every write that was acknowledged at QUORUM before the read began, and no later read at QUORUM gives back less than it. So:
 * - enough replicas are asked, each of which agrees in the same transaction about who the replicas are. Where all of them have seen the same of a key, its row is
 *   on enough of them, and is the answer;
 * - where they differ, one of them takes in what the others have, whole states; its row is read; what it has goes back to the others, and only when enough
 *   of them hold it is the row the answer. That which loses on the way is kept as a conflict, as always: a difference never fails a read.
 * What would break it: to answer before the row is on enough replicas (a later read might miss it); to compare winners alone (an open conflict would stay on one node).
 */
import type { CollectionRow } from '../collections/catalog.pg.ts';
import { staleMapTries, type CollectionDirectory } from '../collections/directory.pg.ts';
import { isPgquorumError, PgquorumError } from '../errors/error.ts';
import type { Deadline } from '../postgres/deadline.ts';
import { isStaleDefinition, isStaleMap, requestError } from '../postgres/request-error.ts';
import { remainingMs, within } from '../postgres/session.pg.ts';
import { confirmedSql } from '../topology/confirmed.pg.ts';
import { isNodeFailure, type Node, type Nodes } from '../topology/nodes.pg.ts';
import { covers, includes, sameClock } from '../versioning/clock.ts';
import type { KeyItem } from '../writes/item.ts';
import type { FanOut } from '../writes/fan-out.pg.ts';
import { everyReplica, isMet, requiredOf, type Consistency, type ReplicaSets } from '../writes/levels.ts';
import { beliefAbout } from '../writes/replica-sets.pg.ts';
import { believing } from '../writes/believing.pg.ts';
import { keyOf } from '../writes/strengthen.pg.ts';
import { notYetVisible, type Token } from '../writes/token.ts';
import { statement } from '../writes/statements.ts';
import { inOrder } from '../writes/transaction.pg.ts';
import { isReached } from './token-reached.pg.ts';
import { readDigests, readRows, type Digest } from './read-rows.pg.ts';
import { notThere, resultOf, type ReadResult, type StoredRow } from './stored-vector.ts';

const confirmedStatement = statement(
  `select ${confirmedSql} and not exists (select from pgquorum.resync r where r.went_back) as confirmed from pgquorum.node n`,
);

export interface LevelReadOptions {
  readonly level: Exclude<Consistency, 'one'>;
  readonly deadline: Deadline;
  readonly siblings: boolean;
  readonly token: Token | null;
}

export interface LevelReaderOptions {
  readonly nodes: Nodes;
  readonly directory: CollectionDirectory;
  readonly fanOut: FanOut;
}

/** Items whose shards have the same replicas. */
interface Group {
  readonly collection: CollectionRow;
  readonly items: readonly KeyItem[];
  readonly sets: ReplicaSets;
}

/** What the replicas that were asked have of some keys. */
interface Answers {
  /** The node whose rows were read, and they. */
  readonly home: Node;
  readonly rows: ReadonlyMap<string, StoredRow>;
  /** It has read the logs as far as the token says. */
  readonly reached: boolean;
  /** Of the others. */
  readonly others: ReadonlyMap<Node, ReadonlyMap<string, Digest>>;
}

export class LevelReader {
  readonly #nodes: Nodes;
  readonly #directory: CollectionDirectory;
  readonly #fanOut: FanOut;

  constructor(options: LevelReaderOptions) {
    this.#nodes = options.nodes;
    this.#directory = options.directory;
    this.#fanOut = options.fanOut;
  }

  /** By id. */
  async read(
    given: CollectionRow,
    items: readonly KeyItem[],
    options: LevelReadOptions,
  ): Promise<Map<string, ReadResult>> {
    let collection = given;
    const found = new Map<string, ReadResult>();
    for (let staleTries = 0; ; staleTries += 1) {
      const groups = this.#groups(
        collection,
        items.filter(({ id }) => !found.has(id)),
      );
      const stale = await Promise.all(groups.map((group) => this.#readGroup(group, options, found)));
      if (!stale.some(Boolean)) return found;
      try {
        if (staleTries >= staleMapTries)
          throw new PgquorumError('stale_shard_map', 'the shards are moved faster than they can be read');
        await this.#nodes.lookAgain(options.deadline);
        collection = await this.#directory.refreshSoon(collection.name, options.deadline);
      } catch (cause) {
        if (!isPgquorumError(cause)) throw cause;
        // What was read before is true.
        for (const { id } of items) if (!found.has(id)) found.set(id, { id, error: cause });
        return found;
      }
    }
  }

  #groups(collection: CollectionRow, items: readonly KeyItem[]): Group[] {
    const groups = new Map<string, { items: KeyItem[]; sets: ReplicaSets }>();
    for (const item of items) {
      const sets = this.#fanOut.setsOf(collection, item.shard);
      const key = JSON.stringify(sets);
      const group = groups.get(key);
      if (group === undefined) groups.set(key, { items: [item], sets });
      else group.items.push(item);
    }
    return [...groups.values()].map((group) => ({ collection, ...group }));
  }

  /** True when a node knows better who the replicas are. */
  async #readGroup(
    group: Group,
    options: LevelReadOptions,
    found: Map<string, ReadResult>,
  ): Promise<boolean> {
    const { collection } = group;
    let { items } = group;
    try {
      for (const failed = new Set<Node>(); ;) {
        const answers = await this.#ask(group, items, options, failed);
        const differing = items.filter(({ id }) => !agree(answers, id));
        for (const { id } of items)
          if (agree(answers, id)) found.set(id, this.#resultOf(group, answers, id, options));
        if (differing.length === 0) return false;
        const lost = await this.#repair({ ...group, items: differing }, answers, options, found);
        if (lost === null) return false;
        // The others may do without it.
        failed.add(lost);
        items = differing;
      }
    } catch (cause) {
      if (isStaleMap(cause)) return true;
      if (isStaleDefinition(cause)) this.#directory.forget(collection.name);
      const known = requestError(cause, collection.name);
      if (!(known instanceof PgquorumError)) throw known;
      for (const { id } of items) if (!found.has(id)) found.set(id, { id, error: known });
      return false;
    }
  }

  #resultOf(
    { collection }: Group,
    { home, rows, reached }: Answers,
    id: string,
    { token }: LevelReadOptions,
  ): ReadResult {
    const row = rows.get(id);
    const dot = token?.writes.find((write) => write.id === id)?.dot;
    if (!reached || (dot !== undefined && !covers(row?.seen ?? {}, dot)))
      return { id, error: notYetVisible() };
    const nameOf = (number: number): string => this.#nodes.nameOf(number);
    return row === undefined ? notThere(id) : resultOf(row, { node: home.name, collection, nameOf });
  }

  /** Asks as many as make up the level: the first in order for rows, all others that are up for what they have seen. */
  async #ask(
    group: Group,
    items: readonly KeyItem[],
    options: LevelReadOptions,
    failed: Set<Node>,
  ): Promise<Answers> {
    const names = everyReplica(group.sets);
    for (;;) {
      const up = this.#nodes.inOrder(names, 'nearest').filter((node) => node.isUp && !failed.has(node));
      const [home, ...others] = up;
      if (home === undefined || !isMet(options.level, group.sets, new Set(up.map(({ name }) => name))))
        throw new PgquorumError(
          'replicas_unavailable',
          `fewer replicas of the shard are up than the ${requiredOf(options.level, group.sets)} that consistency=${options.level} needs`,
        );
      const answers = await this.#askThese(group, items, { ...options, home, others, failed });
      if (answers !== null) return answers;
    }
  }

  /** Null when one of them failed and the others are too few. */
  async #askThese(
    group: Group,
    items: readonly KeyItem[],
    ask: LevelReadOptions & {
      readonly home: Node;
      readonly others: readonly Node[];
      readonly failed: Set<Node>;
    },
  ): Promise<Answers | null> {
    const ids = items.map(({ id }) => id);
    const { home, failed, level, siblings, deadline, token } = ask;
    const others = new Map<Node, ReadonlyMap<string, Digest>>();
    const enough = (): boolean =>
      isMet(level, group.sets, new Set([home.name, ...[...others.keys()].map(({ name }) => name)]));
    const onFailure = (node: Node) => (cause: unknown) => {
      if (!isNodeFailure(cause)) throw cause;
      failed.add(node);
    };
    const rows = this.#believing(home, group, deadline, async (client) => {
      const [reached, read] = await inOrder([
        token === null || token.positions.length === 0
          ? Promise.resolve(true)
          : isReached(client, group.collection, token, []),
        readRows(client, group.collection, ids, { siblings, seen: true }),
      ]);
      return { reached, rows: read };
    });
    const asked = ask.others.map((node) =>
      this.#believing(node, group, deadline, (client) => readDigests(client, group.collection, ids)).then(
        (digests) => void others.set(node, digests),
        onFailure(node),
      ),
    );
    const first = rows.catch(onFailure(home));
    // Each may be the last that is needed; a refusal is everybody's.
    const complete = new Promise<void>((resolve, reject) => {
      for (const one of asked) one.then(() => enough() && resolve(), reject);
      Promise.all(asked).then(() => resolve(), reject);
    });
    const [read] = await Promise.all([first, complete]);
    return read === undefined || !enough() ? null : { home, ...read, others };
  }

  #believing<T>(
    node: Node,
    { collection, items }: Group,
    deadline: Deadline,
    read: (client: Parameters<Parameters<Node['run']>[1]>[0]) => Promise<T>,
  ): Promise<T> {
    const belief = beliefAbout(
      collection,
      items.map(({ shard }) => shard),
      this.#nodes,
    );
    return node.run(deadline, async (client) => {
      const [found, confirmed] = await believing(client, belief, () => [
        read(client),
        client.query<{ confirmed: boolean }>(confirmedStatement),
      ]);
      // One that was restored may lack what it has acknowledged, until it has all of it again.
      if (confirmed.rows[0]?.confirmed !== true)
        throw new PgquorumError('node_unreachable', `node ${node.name} may not be the database that it was`);
      return found;
    });
  }

  /** The node without which it has to be tried again; null when it is done. */
  async #repair(
    group: Group,
    answers: Answers,
    options: LevelReadOptions,
    found: Map<string, ReadResult>,
  ): Promise<Node | null> {
    const { home, reached, others } = answers;
    const { collection, items } = group;
    const { deadline, level } = options;
    const gathered = await Promise.allSettled(
      [...others].map(([node, digests]) => this.#gather(group, { ...answers, node, digests }, deadline)),
    );
    for (const one of gathered) if (one.status === 'rejected') throw one.reason;
    const lost = gathered.flatMap((one) => (one.status === 'fulfilled' && one.value ? [one.value] : []));
    if (lost.length > 0) return lost[0]!;
    const merged = await this.#believing(home, group, deadline, (client) =>
      readRows(
        client,
        collection,
        items.map(({ id }) => id),
        { siblings: options.siblings, seen: true },
      ),
    ).catch((cause: unknown) => {
      if (isNodeFailure(cause)) return null;
      throw cause;
    });
    if (merged === null) return home;
    const spread = await this.#fanOut.spread(
      home,
      items.map(({ id, shard }) => ({ id, key: keyOf(collection, id), shard, dots: [], held: [] })),
      { collection, level, deadline, written: false },
    );
    for (const { id } of items) {
      const { acks, sets } = spread.get(id)!;
      const isThere = merged.get(id)?.seen != null;
      // Where nothing was ever written there is nothing to bring anywhere.
      const held = !isThere || isMet(level, sets, new Set(acks));
      found.set(
        id,
        held
          ? this.#resultOf(group, { home, rows: merged, reached, others }, id, options)
          : { id, error: notHeld(level, deadline) },
      );
    }
    return null;
  }

  /** Brings what a node has and the home has not to the home. The node of the two that failed, if one has. */
  async #gather(
    { collection, items }: Group,
    {
      home,
      rows,
      node,
      digests,
    }: Pick<Answers, 'home' | 'rows'> & {
      readonly node: Node;
      readonly digests: ReadonlyMap<string, Digest>;
    },
    deadline: Deadline,
  ): Promise<Node | null> {
    const more = items.filter(({ id }) => hasMore(digests.get(id), rows.get(id)));
    if (more.length === 0) return null;
    let asked = node;
    try {
      const states = await this.#fanOut.states.read(node, {
        table: collection.table,
        keys: more.map(({ id }) => keyOf(collection, id)),
        durable: new Set(),
        deadline,
        belief: beliefAbout(
          collection,
          more.map(({ shard }) => shard),
          this.#nodes,
        ),
      });
      asked = home;
      if (states.size > 0)
        await within(deadline, this.#fanOut.sendTo(home, collection, [...states.values()], deadline));
      return null;
    } catch (cause) {
      if (isNodeFailure(cause)) return asked;
      throw cause;
    }
  }
}

const notHeld = (level: Consistency, deadline: Deadline): PgquorumError =>
  remainingMs(deadline) <= 0
    ? new PgquorumError(
        'timeout',
        `the replicas differ, and were not brought together within ${deadline.timeoutMs} ms`,
      )
    : new PgquorumError(
        'replicas_unavailable',
        `the replicas differ, and too few could be brought to what consistency=${level} needs`,
      );

const agree = ({ rows, others }: Answers, id: string): boolean =>
  [...others.values()].every((digests) => same(rows.get(id), digests.get(id)));

function same(a: Digest | undefined, b: Digest | undefined): boolean {
  const [one, other] = [a?.seen ?? null, b?.seen ?? null];
  if (one === null || other === null) return one === other;
  return a!.origin === b!.origin && a!.counter === b!.counter && sameClock(one, other);
}

function hasMore(a: Digest | undefined, than: Digest | undefined): boolean {
  const [seen, known] = [a?.seen ?? null, than?.seen ?? null];
  return seen !== null && (known === null || !includes(known, seen));
}
