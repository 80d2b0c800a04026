/** Reads by id at ONE, from the first live node of the shard that knows the key: the one that took the write, unless it has failed since. */
import type pg from 'pg';
import { staleMapTries, type CollectionDirectory } from '../collections/directory.pg.ts';
import type { CollectionRow } from '../collections/catalog.pg.ts';
import type { CollectionTable } from '../collections/definition.ts';
import {
  columnTextSql,
  embeddingColumn,
  hasAnyIdSql,
  idSql,
  metadataColumn,
} from '../collections/row-address.ts';
import { versionTable } from '../collections/trigger.ts';
import { sameKey } from '../collections/unversioned-rows.ts';
import { siblingsSql, siblingView, type Sibling, type SiblingJson } from '../conflicts/siblings.ts';
import { PgquorumError } from '../errors/error.ts';
import { textArray } from '../postgres/binary-array.ts';
import type { Deadline } from '../postgres/deadline.ts';
import { quoteName, quoteTable, quoteText } from '../postgres/identifier.ts';
import { isStaleDefinition, isStaleMap, requestError } from '../postgres/request-error.ts';
import { parseLossless } from '../requests/lossless-json.ts';
import { checkStillHeld } from '../shards/held.pg.ts';
import { isNodeFailure, type Node, type Nodes } from '../topology/nodes.pg.ts';
import type { ShardPlacement } from '../topology/shard-placement.ts';
import { versionView, type VersionColumns, type VersionView } from '../versioning/version-view.ts';
import type { ShardNumber } from '../versioning/version.ts';
import { embeddingOfText, type EmbeddingView } from '../writes/embedding.ts';
import type { ParsedItem } from '../writes/item.ts';
import { modelOfRank } from '../writes/model.ts';
import { statement } from '../writes/statements.ts';

export interface StoredVector {
  readonly id: string;
  readonly embedding: EmbeddingView | null;
  readonly metadata: unknown;
  readonly version: VersionView | null;
  readonly node: string;
  /** Values of the CRDT fields, in collections that declare some. */
  readonly crdt?: unknown;
  /** The embedding model that the version's write named, in collections that list some. */
  readonly model?: string | null;
  /** Open conflicts of the key, when they were asked for. */
  readonly siblings?: readonly Sibling[];
}

export type ReadResult = StoredVector | { readonly id: string | null; readonly error: PgquorumError };

interface Row extends Partial<VersionColumns> {
  readonly id: string;
  /** False for a tombstone. */
  readonly present: boolean;
  readonly embedding: string | null;
  readonly metadata: string | null;
  readonly rank: number | null;
  readonly crdt?: unknown;
  readonly siblings?: readonly SiblingJson[];
}

export interface ReadCallOptions {
  readonly deadline: Deadline;
  readonly siblings: boolean;
}

interface KeyItem {
  readonly id: string;
  readonly shard: ShardNumber;
}

/** A column of the key is null only where there is nothing. */
const isThere = (table: CollectionTable, alias: string): string =>
  `${alias}.${quoteName(table.key[0]!.name)} is not null`;
const eitherId = (table: CollectionTable): string =>
  `case when ${isThere(table, 't')} then ${idSql(table, 't')} else ${idSql(table, 'v')} end`;

/** Rows and tombstones of keys; what is in neither is not known here. Siblings in the same statement, so that they are of the same moment. */
const readStatement = ({ table, definition: { conflicts } }: CollectionRow, siblings: boolean) =>
  statement(
    `select ${eitherId(table)} as id, ${isThere(table, 't')} as present, ${columnTextSql('t', embeddingColumn(table))} as embedding, ${columnTextSql('t', metadataColumn(table))} as metadata, v.hlc::text as hlc, v.origin, v.counter::text as counter, v.clock, v.rank${conflicts.crdt === undefined ? '' : `, pgquorum.crdt_values(v.crdt, ${quoteText(JSON.stringify(conflicts.crdt))}) as crdt`}${siblings ? `, ${siblingsSql(quoteText(table.collection), eitherId(table))} as siblings` : ''}
     from (select * from ${quoteTable({ schema: table.schema, name: table.table })} r where ${hasAnyIdSql(table, 'r')}) t
     full join (select * from ${versionTable(table)} r where ${hasAnyIdSql(table, 'r')}) v on ${sameKey(table, 'v.', 't.')}`,
  );

export class Reader {
  readonly #nodes: Nodes;
  readonly #placement: ShardPlacement;
  readonly #directory: CollectionDirectory;

  constructor(options: {
    readonly nodes: Nodes;
    readonly placement: ShardPlacement;
    readonly directory: CollectionDirectory;
  }) {
    this.#nodes = options.nodes;
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
    const found = new Map<string, ReadResult>();
    const notThere = (item: KeyItem): ReadResult => ({
      id: item.id,
      error: new PgquorumError('vector_not_found', `vector ${JSON.stringify(item.id)}`),
    });
    let pending = parsed.flatMap((one) => (one.ok ? [one.item] : []));
    const asked = new Map<KeyItem, number>(pending.map((item) => [item, 0]));
    const orderOf = (item: KeyItem): Node[] =>
      this.#nodes.inOrder(this.#placement.replicasOf(current, item.shard));
    let current = collection;
    let orders = new Map(pending.map((item) => [item, orderOf(item)]));
    const answered = new Set<KeyItem>();
    let staleTries = 0;
    while (pending.length > 0) {
      const byNode = new Map<Node, KeyItem[]>();
      for (const item of pending) {
        const node = orders.get(item)![asked.get(item)!];
        if (node === undefined)
          found.set(
            item.id,
            answered.has(item)
              ? notThere(item)
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
          this.#readFrom(node, collection, items, { ...options, found, notThere, answered, stale }),
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
    return parsed.map((one) => (one.ok ? found.get(one.item.id)! : { id: one.id, error: one.error }));
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
      notThere: (item: KeyItem) => ReadResult;
      answered: Set<KeyItem>;
      /** Those that the node does not hold any more. */
      stale: KeyItem[];
    },
  ): Promise<readonly KeyItem[]> {
    let rows: Map<string, Row>;
    try {
      rows = await node.run(round.deadline, async (client) => {
        const ids = items.map((item) => item.id);
        const found = await readRows(client, collection, ids, round.siblings);
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
    const unknown: KeyItem[] = [];
    for (const item of items) {
      round.answered.add(item);
      const row = rows.get(item.id);
      if (row === undefined) unknown.push(item);
      else round.found.set(item.id, row.present ? this.#stored(row, node, collection) : round.notThere(item));
    }
    return unknown;
  }

  #stored(row: Row, node: Node, { definition: { conflicts } }: CollectionRow): StoredVector {
    const { hlc, origin, counter, clock } = row;
    const nameOf = (number: number): string => this.#nodes.nameOf(number);
    const version =
      hlc != null && origin != null && counter != null && clock != null
        ? versionView({ hlc, origin, counter, clock }, nameOf)
        : null;
    return {
      id: row.id,
      embedding: row.embedding === null ? null : embeddingOfText(row.embedding),
      metadata: row.metadata === null ? null : parseLossless(row.metadata),
      ...(row.crdt === undefined ? {} : { crdt: row.crdt }),
      ...(conflicts.models === undefined ? {} : { model: modelOfRank(row.rank, conflicts.models) }),
      version,
      node: node.name,
      ...(row.siblings === undefined
        ? {}
        : { siblings: row.siblings.map((sibling) => siblingView(sibling, nameOf)) }),
    };
  }
}

async function readRows(
  client: pg.PoolClient,
  collection: CollectionRow,
  ids: readonly string[],
  siblings: boolean,
): Promise<Map<string, Row>> {
  const result = await client.query<Row>({
    ...readStatement(collection, siblings),
    values: [textArray(ids)],
  });
  return new Map(result.rows.map((row) => [row.id, row]));
}
