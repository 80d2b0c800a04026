/**
 * Folds what increments by request have left in the counters of one node, a page of listed keys with each pass. The rule is in stability.ts; this
 * takes the looks, keeps those that are not heard yet, and has the members remember what is going to be folded before it is.
 *
 * An increment counts under its request's id until the fold, and under the node's cell after it; from then on only pgquorum.request
 * knows the id, on every member, for as long as requests are remembered. Two folders of one node do no harm: the states are locked.
 */
import type pg from 'pg';
import { readCollection } from '../collections/catalog.pg.ts';
import type { CollectionTable } from '../collections/definition.ts';
import { closeClient, connect } from '../postgres/connect.pg.ts';
import type { ClusterNode } from '../topology/found.pg.ts';
import { foldable, lowestOrigin } from '../versioning/crdt/fold.ts';
import { livesOf } from '../versioning/crdt/state.ts';
import type { NodeNumber } from '../versioning/version.ts';
import {
  foldKeys,
  foldPatiently,
  type FoldKey,
  type FoldKeysOptions,
  type StateRow,
} from './fold-keys.pg.ts';
import { Members, type Remembered, type SeenRow } from './members.pg.ts';
import { hasUnfolded, isHeard, isSeenByAll, type Looks } from './stability.ts';
import { keyArrays, listedSql, placeSql, seenSql, statesSql } from './statements.ts';

export interface FolderOptions {
  readonly node: ClusterNode;
  readonly nodes: readonly ClusterNode[];
  readonly pageKeys?: number;
}

export interface FoldPass {
  /** Keys that changed. */
  readonly folded: number;
  /** There may be more keys on the list. */
  readonly more: boolean;
}

interface Taken {
  readonly looks: Looks;
  round: number;
}

/** Rows are locked while so many are folded. */
const transactionKeys = 100;
/** Looks that wait to be heard. Beyond, keys wait for their first look. */
const looksMax = 20_000;
/** Keys that someone had locked are waited for, so many in a pass: a counter that is written all the time would never be free by chance. */
const patientKeys = 20;

export class Folder {
  readonly #options: FolderOptions;
  #client: pg.Client | null = null;
  #members: Members | null = null;
  #after: readonly [collection: string, key: string] = ['', ''];
  /** Collection -> key -> looks that were not heard yet. */
  readonly #looks = new Map<string, Map<string, Taken>>();
  /** Times that the list was gone through. */
  #round = 0;

  constructor(options: FolderOptions) {
    this.#options = options;
  }

  /** Rejects when a member can not be asked. Then close this, and begin with another one: looks do not outlive the connections that they were taken on. */
  async pass(): Promise<FoldPass> {
    const { node, nodes, pageKeys = 500 } = this.#options;
    this.#client ??= await connect(node.address, {
      application: 'pgquorum folding',
      answerWithinMs: 30_000,
    });
    const client = this.#client;
    const place = (
      await client.query<{ number: NodeNumber; listed: boolean; others: NodeNumber[] }>(placeSql)
    ).rows[0]!;
    if (!place.listed) {
      await this.#forget();
      return { folded: 0, more: false };
    }
    if (this.#members?.numbers.join() !== place.others.join()) {
      await this.#forget();
      this.#members = await Members.open(nodes, place.others);
    }
    const listed = await client.query<{ collection: string; key: string }>(listedSql, [
      ...this.#after,
      pageKeys,
    ]);
    let folded = 0;
    for (const [name, keys] of Map.groupBy(listed.rows, (row) => row.collection)) {
      const found = await readCollection(client, name);
      if (found === null) continue; // dropped just now, and its keys with it
      const options = { table: found.table, fields: found.definition.conflicts.crdt ?? {}, me: place.number };
      folded += await this.#foldPage(
        client,
        keys.map((row) => row.key),
        options,
      );
    }
    const more = listed.rows.length === pageKeys;
    const last = listed.rows.at(-1);
    this.#after = more ? [last!.collection, last!.key] : ['', ''];
    if (!more) this.#nextRound();
    return { folded, more };
  }

  /** States are read in parts, and only where they may be folded: a page of them may be large. */
  async #foldPage(client: pg.Client, keys: readonly string[], options: FoldKeysOptions): Promise<number> {
    const { table } = options;
    const looks = await this.#look(table, keys);
    // After the looks: what is heard shows as early as can be.
    const seen = await client.query<SeenRow>(seenSql(table), keyArrays(table, keys));
    const heard = seen.rows.flatMap((row): KeyLooks[] => {
      const key = keys[row.place - 1]!;
      const taken = looks.get(key)?.looks;
      if (taken === undefined || !isHeard(row.seen, taken)) return [];
      looks.delete(key);
      return [{ key, looks: taken }];
    });
    let folded = 0;
    let patience = patientKeys;
    for (let at = 0; at < heard.length; at += transactionKeys) {
      const ready = await readReady(client, heard.slice(at, at + transactionKeys), options);
      if (ready.length === 0) continue;
      const requests = ready.flatMap((one) => one.remembered);
      // Durable on every member before the fold is: once a member has the fold, only this refuses a repeat there.
      if (requests.length > 0)
        await this.#members!.remember({ collection: table.collection, origin: options.me, requests });
      const done = await foldKeys(client, ready, options);
      folded += done.changed;
      for (const one of done.locked.slice(0, patience)) folded += await foldPatiently(client, one, options);
      patience -= Math.min(patience, done.locked.length);
    }
    return folded;
  }

  /** The looks of a collection's keys, after new ones at those of `keys` that have none. */
  async #look(table: CollectionTable, keys: readonly string[]): Promise<Map<string, Taken>> {
    let looks = this.#looks.get(table.collection);
    if (looks === undefined) this.#looks.set(table.collection, (looks = new Map()));
    const wanted = keys.filter((key) => !looks.has(key)).slice(0, Math.max(0, looksMax - looks.size));
    if (wanted.length > 0) {
      const taken = await this.#members!.look(table, wanted);
      for (const [at, key] of wanted.entries()) looks.set(key, { looks: taken[at]!, round: this.#round });
    }
    for (const key of keys) {
      const taken = looks.get(key);
      if (taken !== undefined) taken.round = this.#round;
    }
    return looks;
  }

  /** Keys that were not on the list any more are forgotten. */
  #nextRound(): void {
    for (const looks of this.#looks.values())
      for (const [key, { round }] of looks) if (round < this.#round) looks.delete(key);
    this.#round += 1;
  }

  async #forget(): Promise<void> {
    this.#looks.clear();
    await this.#members?.close();
    this.#members = null;
  }

  async close(): Promise<void> {
    await this.#forget();
    if (this.#client !== null) await closeClient(this.#client);
    this.#client = null;
  }
}

interface KeyLooks {
  readonly key: string;
  readonly looks: Looks;
}

/** Keys that hold something to fold, or nothing any more. */
async function readReady(
  client: pg.Client,
  heard: readonly KeyLooks[],
  options: FoldKeysOptions,
): Promise<FoldKey[]> {
  const keys = heard.map((one) => one.key);
  const { rows } = await client.query<StateRow>(statesSql(options.table), keyArrays(options.table, keys));
  return rows.flatMap((row) => {
    const one = heard[row.place - 1]!;
    const remembered = row.deleted ? [] : stableRequests(row, one, options);
    return remembered.length === 0 && hasUnfolded(row.crdt, options.me) ? [] : [{ ...one, remembered }];
  });
}

/** What `fold` would leave alone for its field's sake is not asked for either. */
function stableRequests(
  { crdt }: StateRow,
  { key, looks }: KeyLooks,
  { fields, me }: FoldKeysOptions,
): Remembered[] {
  const isCounter = (field: string): boolean =>
    fields[field] === 'g-counter' || fields[field] === 'pn-counter';
  return foldable(livesOf(crdt)).flatMap(({ request, at, d }) =>
    lowestOrigin(at) === me && isSeenByAll(at, looks) && Object.keys(d).every(isCounter)
      ? [{ key, request, counter: at[me]! }]
      : [],
  );
}
