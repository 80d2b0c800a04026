/**
 * Reads by id. At ONE from the first live node of the shard that knows the key: the one that took the write, unless it has failed since;
 * beyond ONE as level-reader.pg.ts says.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { staleMapTries, type CollectionDirectory } from '../collections/directory.pg.ts';
import type { CollectionRow } from '../collections/catalog.pg.ts';
import { PgquorumError } from '../errors/error.ts';
import type { Deadline } from '../postgres/deadline.ts';
import { isStaleDefinition, isStaleMap, requestError } from '../postgres/request-error.ts';
import { checkStillHeld } from '../shards/held.pg.ts';
import { isNodeFailure, type Node, type Nodes } from '../topology/nodes.pg.ts';
import type { ShardPlacement } from '../topology/shard-placement.ts';
import type { KeyItem, ParsedItem } from '../writes/item.ts';
import type { Consistency } from '../writes/levels.ts';
import type { LevelReader } from './level-reader.pg.ts';
import { readRows } from './read-rows.pg.ts';
import { isReached } from './token-reached.pg.ts';
import { checkTokenOf, notYetVisible, writesOf, type Token } from '../writes/token.ts';
import { remainingMs } from '../postgres/session.pg.ts';
import { notThere, resultOf, type ReadResult, type StoredRow, type StoredVector } from './stored-vector.ts';

const tokenPollMs = 20;

export interface ReadCallOptions {
  readonly deadline: Deadline;
  readonly siblings: boolean;
  readonly token: Token | null;
  readonly level: Consistency;
}

export class Reader {
  readonly #nodes: Nodes;
  readonly #placement: ShardPlacement;
  readonly #directory: CollectionDirectory;
  readonly #levels: LevelReader;

  constructor(options: {
    readonly nodes: Nodes;
    readonly placement: ShardPlacement;
    readonly directory: CollectionDirectory;
    readonly levels: LevelReader;
  }) {
    this.#nodes = options.nodes;
    this.#levels = options.levels;
    this.#placement = options.placement;
    this.#directory = options.directory;
  }

  async get(collection: CollectionRow, item: KeyItem, options: ReadCallOptions): Promise<StoredVector> {
    const [found] = await this.getAll(collection, [{ ok: true, item }], options);
    if (found === undefined) throw new PgquorumError('internal', 'a read gave no result');
    if ('error' in found) throw found.error;
    return found;
  }

  async getAll(
    collection: CollectionRow,
    parsed: readonly ParsedItem<KeyItem>[],
    options: ReadCallOptions,
  ): Promise<ReadResult[]> {
    const items = parsed.flatMap((one) => (one.ok ? [one.item] : []));
    const found = await this.#untilSeen(collection, items, options);
    return parsed.map((one) => (one.ok ? found.get(one.item.id)! : { id: one.id, error: one.error }));
  }

  /** With a token what is on its way is waited for. */
  async #untilSeen(
    collection: CollectionRow,
    items: readonly KeyItem[],
    options: ReadCallOptions,
  ): Promise<Map<string, ReadResult>> {
    const { token, level, deadline } = options;
    if (token !== null) checkTokenOf(token, collection.name);
    const all = new Map<string, ReadResult>();
    for (let waiting = items; ;) {
      const reading =
        level === 'one'
          ? this.#atOne(collection, waiting, options)
          : this.#levels.read(collection, waiting, { ...options, level });
      const found = await reading.catch((cause: unknown) => {
        if (all.size > 0 && isTimeout(cause)) return new Map<string, ReadResult>();
        throw cause;
      });
      // What was not there a moment ago is still the reason when the time is over.
      for (const [id, result] of found)
        if (!(all.has(id) && 'error' in result && isTimeout(result.error))) all.set(id, result);
      waiting = waiting.filter(({ id }) => isNotYetVisible(all.get(id)!));
      if (waiting.length === 0 || remainingMs(deadline) <= tokenPollMs) return all;
      await sleep(tokenPollMs, undefined, { signal: deadline.signal }).catch(() => undefined); // the next reading meets it
    }
  }

  async #atOne(
    collection: CollectionRow,
    items: readonly KeyItem[],
    options: ReadCallOptions,
  ): Promise<Map<string, ReadResult>> {
    const found = new Map<string, ReadResult>();
    let pending = items;
    const asked = new Map<KeyItem, number>(pending.map((item) => [item, 0]));
    const orderOf = (item: KeyItem): Node[] =>
      this.#nodes.inOrder(this.#placement.replicasOf(current, item.shard));
    let current = collection;
    let orders = new Map(pending.map((item) => [item, orderOf(item)]));
    const answered = new Set<KeyItem>();
    const behind = new Set<KeyItem>();
    let staleTries = 0;
    while (pending.length > 0) {
      const byNode = new Map<Node, KeyItem[]>();
      for (const item of pending) {
        const node = orders.get(item)![asked.get(item)!];
        if (node === undefined)
          found.set(
            item.id,
            behind.has(item)
              ? { id: item.id, error: notYetVisible() }
              : answered.has(item)
                ? notThere(item.id)
                : {
                    id: item.id,
                    error: new PgquorumError('replicas_unavailable', 'no node of the shard can be read'),
                  },
          );
        else byNode.set(node, [...(byNode.get(node) ?? []), item]);
      }
      const stale: KeyItem[] = [];
      const rounds = await Promise.all(
        [...byNode].map(async ([node, items]) =>
          this.#readFrom(node, collection, items, { ...options, found, answered, behind, stale }),
        ),
      );
      pending = rounds.flat();
      for (const item of pending) asked.set(item, asked.get(item)! + 1);
      if (stale.length === 0) continue;
      staleTries += 1;
      if (staleTries > staleMapTries)
        throw new PgquorumError('stale_shard_map', 'the shards are moved faster than they can be read');
      current = await this.#directory.refreshSoon(collection.name, options.deadline);
      for (const item of stale) asked.set(item, 0);
      pending = [...pending, ...stale];
      orders = new Map(
        pending.map((item) => [item, stale.includes(item) ? orderOf(item) : orders.get(item)!]),
      );
    }
    return found;
  }

  /** Returns the items that the next node has to be asked for. */
  async #readFrom(
    node: Node,
    collection: CollectionRow,
    items: readonly KeyItem[],
    round: {
      deadline: Deadline;
      siblings: boolean;
      found: Map<string, ReadResult>;
      token: Token | null;
      answered: Set<KeyItem>;
      /** Those of which a node did not have what the token names. */
      behind: Set<KeyItem>;
      /** Those that the node does not hold any more. */
      stale: KeyItem[];
    },
  ): Promise<readonly KeyItem[]> {
    let rows: Map<string, StoredRow> | null;
    try {
      rows = await node.run(round.deadline, async (client) => {
        const ids = items.map((item) => item.id);
        if (
          round.token !== null &&
          !(await isReached(client, collection, round.token, writesOf(round.token, ids)))
        )
          return null;
        const found = await readRows(client, collection, ids, { siblings: round.siblings });
        await checkStillHeld(
          client,
          collection,
          items.map((item) => item.shard),
        );
        return found;
      });
    } catch (cause) {
      if (isNodeFailure(cause)) return items;
      if (isStaleMap(cause)) {
        round.stale.push(...items);
        return [];
      }
      if (isStaleDefinition(cause)) this.#directory.forget(collection.name);
      throw requestError(cause, collection.name);
    }
    if (rows === null) {
      for (const item of items) round.behind.add(item);
      return items;
    }
    const unknown: KeyItem[] = [];
    for (const item of items) {
      round.answered.add(item);
      const row = rows.get(item.id);
      if (row === undefined) unknown.push(item);
      else
        round.found.set(
          item.id,
          resultOf(row, { node: node.name, collection, nameOf: (number) => this.#nodes.nameOf(number) }),
        );
    }
    return unknown;
  }
}

const isTimeout = (cause: unknown): boolean => cause instanceof PgquorumError && cause.code === 'timeout';

const isNotYetVisible = (result: ReadResult): boolean =>
  'error' in result && result.error.code === 'not_yet_visible';
