/**
 * The k nearest: from one node where every node holds every shard, else from the fewest live replicas that have all shards between them. Each of them is asked for its
 * shards alone, so what has not been cleaned away elsewhere yet (a departed shard, a write by SQL on a node that does not hold it) never shows, and no match comes twice.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type pg from 'pg';
import type { CollectionRow } from '../collections/catalog.pg.ts';
import { metricOperators, typeSql } from '../collections/definition.ts';
import { staleMapTries, type CollectionDirectory } from '../collections/directory.pg.ts';
import { embeddingColumn, idSql, metadataColumn } from '../collections/row-address.ts';
import { versionTable } from '../collections/trigger.ts';
import { sameKey } from '../collections/unversioned-rows.ts';
import { PgquorumError } from '../errors/error.ts';
import type { Deadline } from '../postgres/deadline.ts';
import { quoteName, quoteTable } from '../postgres/identifier.ts';
import { isStaleDefinition, isStaleMap, requestError } from '../postgres/request-error.ts';
import { remainingMs } from '../postgres/session.pg.ts';
import type { Reader } from '../reads/reader.pg.ts';
import { isReached } from '../reads/token-reached.pg.ts';
import { shardOf } from '../placement/partitioning.ts';
import { notSupported } from '../requests/fields.ts';
import { parseLossless } from '../requests/lossless-json.ts';
import { coverShards } from '../shards/cover.ts';
import { checkStillHeld } from '../shards/held.pg.ts';
import { isNodeFailure, type Node, type Nodes } from '../topology/nodes.pg.ts';
import { versionView, type VersionColumns, type VersionView } from '../versioning/version-view.ts';
import { embeddingOfText, textOfEmbedding, type EmbeddingView } from '../writes/embedding.ts';
import type { ShardNumber } from '../versioning/version.ts';
import { checkTokenOf, notYetVisible, type Token } from '../writes/token.ts';
import { compileFilter } from './filter.ts';
import { checkDirection, efSearchMax, scoreOf, type SearchRequest } from './request.ts';

const tokenPollMs = 20;
const efSearchDefault = 40;
/** How far an index scan goes on when a filter or a large k asks for more: pgvector's default of 20,000 gives up early. */
const scanTuplesMax = 200_000;

export interface Match {
  readonly id: string;
  readonly distance: number;
  readonly score: number;
  readonly embedding?: EmbeddingView;
  readonly metadata?: unknown;
  readonly crdt?: unknown;
  readonly version?: VersionView | null;
}

export interface SearchResult {
  readonly matches: readonly Match[];
  readonly shardsSearched: number;
  readonly shardsTotal: number;
  readonly partial: boolean;
  readonly nodes: readonly string[];
}

interface Row extends Partial<VersionColumns> {
  readonly id: string;
  readonly distance: number;
  readonly embedding?: string;
  readonly metadata?: string | null;
  readonly crdt?: unknown;
}

export class Searcher {
  readonly #nodes: Nodes;
  readonly #reader: Reader;
  readonly #directory: CollectionDirectory;

  constructor(options: {
    readonly nodes: Nodes;
    readonly reader: Reader;
    readonly directory: CollectionDirectory;
  }) {
    this.#nodes = options.nodes;
    this.#reader = options.reader;
    this.#directory = options.directory;
  }

  async search(collection: CollectionRow, request: SearchRequest, deadline: Deadline): Promise<SearchResult> {
    if (request.token !== null) checkTokenOf(request.token, collection.name);
    const near = await this.#nearText(collection, request, deadline);
    for (let behind: unknown = null; ;) {
      try {
        return collection.map === undefined
          ? await this.#searchOne(collection, request, { near, deadline })
          : await this.#searchShards(collection, request, { near, deadline });
      } catch (cause) {
        // What the token names is on its way.
        // What was not there a moment ago is still the reason when the time is over.
        if (behind !== null && cause instanceof PgquorumError && cause.code === 'timeout') throw behind;
        if (!isBehind(cause) || remainingMs(deadline) <= tokenPollMs) throw cause;
        behind = cause;
        await sleep(tokenPollMs, undefined, { signal: deadline.signal }).catch(() => undefined); // the next search meets it
      }
    }
  }

  async #searchOne(
    collection: CollectionRow,
    request: SearchRequest,
    { near, deadline }: { readonly near: string; readonly deadline: Deadline },
  ): Promise<SearchResult> {
    const { text, values } = searchSql(collection, request, near, null);
    try {
      const { rows, node } = await this.#onFirstReached(deadline, async (client, from) => {
        await checkReached(client, collection, request.token, null);
        return {
          rows: await runSearch(client, collection, request, { text, values, deadline }),
          node: from.name,
        };
      });
      const matches = rows
        .filter((row) => !Number.isNaN(row.distance))
        .map((row) => this.#match(collection, row));
      return {
        matches,
        shardsSearched: collection.table.shards,
        shardsTotal: collection.table.shards,
        partial: false,
        nodes: [node],
      };
    } catch (cause) {
      if (isStaleDefinition(cause)) this.#directory.forget(collection.name);
      throw requestError(cause, collection.name);
    }
  }

  /** On the first node that can, and has what the token names. */
  async #onFirstReached<T>(
    deadline: Deadline,
    work: (client: pg.PoolClient, node: Node) => Promise<T>,
  ): Promise<T> {
    let behind: unknown = null;
    for (const node of this.#nodes.anyOrder()) {
      try {
        return await node.run(deadline, (client) => work(client, node));
      } catch (cause) {
        if (isBehind(cause)) behind = cause;
        else if (!isNodeFailure(cause)) throw cause;
      }
    }
    throw behind ?? new PgquorumError('replicas_unavailable', 'no node could do it');
  }

  async #searchShards(
    given: CollectionRow,
    request: SearchRequest,
    search: { readonly near: string; readonly deadline: Deadline },
  ): Promise<SearchResult> {
    let collection = given;
    const failed = new Set<string>();
    let behind = false;
    for (let staleTries = 0; ;) {
      const order = this.#nodes.anyOrder().filter((node) => node.isUp && !failed.has(node.name));
      const { nodes, missing } = coverShards(
        collection.map ?? [],
        order.map(({ name }) => name),
      );
      const total = collection.table.shards;
      if (missing.length > 0 && behind) throw notYetVisible();
      if (missing.length > 0 && !request.allowPartial)
        throw new PgquorumError(
          'replicas_unavailable',
          `${missing.length} of ${total} shards have no live replica; allowPartial searches the others`,
        );
      const asked = [...nodes];
      const answers = await Promise.allSettled(
        asked.map(([name, shards]) => this.#searchNode(collection, request, { ...search, name, shards })),
      );
      const causes = answers.map((answer) =>
        answer.status === 'rejected' ? (answer.reason as unknown) : null,
      );
      const other = causes.find((cause) => cause !== null && !isForOthers(cause) && !isStaleMap(cause));
      if (other !== undefined) {
        if (isStaleDefinition(other)) this.#directory.forget(collection.name);
        throw requestError(other, collection.name);
      }
      causes.forEach((cause, at) => {
        if (isBehind(cause)) behind = true;
        if (cause !== null && isForOthers(cause)) failed.add(asked[at]![0]);
      });
      if (causes.some((cause) => cause !== null)) {
        if (causes.some(isStaleMap)) {
          staleTries += 1;
          if (staleTries > staleMapTries)
            throw new PgquorumError(
              'stale_shard_map',
              'the shards are moved faster than they can be searched',
            );
          collection = await this.#directory.refreshSoon(given.name, search.deadline);
        }
        continue;
      }
      const rows = answers.flatMap((answer) => (answer.status === 'fulfilled' ? answer.value : []));
      return {
        matches: nearest(rows, request.k).map((row) => this.#match(collection, row)),
        shardsSearched: total - missing.length,
        shardsTotal: total,
        partial: missing.length > 0,
        nodes: asked.map(([name]) => name),
      };
    }
  }

  async #searchNode(
    collection: CollectionRow,
    request: SearchRequest,
    search: {
      readonly near: string;
      readonly deadline: Deadline;
      readonly name: string;
      readonly shards: readonly ShardNumber[];
    },
  ): Promise<Row[]> {
    const { near, deadline, name, shards } = search;
    const { text, values } = searchSql(collection, request, near, shards);
    return this.#nodes.byName(name)!.run(deadline, async (client) => {
      await checkReached(client, collection, request.token, shards);
      const rows = await runSearch(client, collection, request, { text, values, deadline });
      await checkStillHeld(client, collection, shards);
      return rows;
    });
  }

  async #nearText(collection: CollectionRow, { near }: SearchRequest, deadline: Deadline): Promise<string> {
    if (near.kind === 'embedding') return textOfEmbedding(near.embedding);
    const stored = await this.#reader.get(
      collection,
      { id: near.id, shard: shardOf(near.id, collection.table) },
      { deadline, siblings: false, token: null, level: 'one' },
    );
    if (stored.embedding === null)
      throw new PgquorumError('invalid_request', 'id: this vector has no embedding to search with');
    checkDirection(stored.embedding, collection.definition.metric);
    return textOfEmbedding(stored.embedding);
  }

  #match(collection: CollectionRow, row: Row): Match {
    const { hlc, origin, counter, clock } = row;
    return {
      id: row.id,
      distance: row.distance,
      score: scoreOf(collection.definition.metric, row.distance),
      ...(row.embedding === undefined ? {} : { embedding: embeddingOfText(row.embedding) }),
      ...(row.metadata === undefined
        ? {}
        : { metadata: row.metadata === null ? null : parseLossless(row.metadata) }),
      ...(row.crdt === undefined ? {} : { crdt: row.crdt }),
      ...(hlc != null && origin != null && counter != null && clock != null
        ? { version: versionView({ hlc, origin, counter, clock }, (number) => this.#nodes.nameOf(number)) }
        : {}),
    };
  }
}

const isBehind = (cause: unknown): boolean =>
  cause instanceof PgquorumError && cause.code === 'not_yet_visible';

/** Another node may do it. */
const isForOthers = (cause: unknown): boolean => isNodeFailure(cause) || isBehind(cause);

/** Throws `not_yet_visible`. Of a node that is asked for some shards only what the token names in those has to be there. */
async function checkReached(
  client: pg.PoolClient,
  collection: CollectionRow,
  token: Token | null,
  shards: readonly ShardNumber[] | null,
): Promise<void> {
  if (token === null) return;
  const writes = token.writes.filter(
    ({ id }) => shards === null || shards.includes(shardOf(id, collection.table)),
  );
  if (!(await isReached(client, collection, token, writes))) throw notYetVisible();
}

/** Of the matches of some nodes; as each of them orders its own. */
function nearest(rows: readonly Row[], k: number): Row[] {
  return rows
    .filter((row) => !Number.isNaN(row.distance))
    .toSorted((a, b) => a.distance - b.distance || Buffer.compare(Buffer.from(a.id), Buffer.from(b.id)))
    .slice(0, k);
}

/** The nearest are found first, in the form that the index answers; versions and texts are added to the few that remain. */
function searchSql(
  { table, definition }: CollectionRow,
  request: SearchRequest,
  near: string,
  shards: readonly ShardNumber[] | null,
): { text: string; values: unknown[] } {
  const values: unknown[] = [];
  const bind = (value: unknown): string => `$${values.push(value)}`;
  const target = `${bind(near)}::${typeSql[definition.vectorType]}`;
  const column = `t.${quoteName(embeddingColumn(table)!)}`;
  const distance = `${column} operator(public.${metricOperators[definition.metric].operator}) ${target}`;
  const conditions = [`${column} is not null`];
  const fields = definition.conflicts.crdt;
  // A sub-select and no join, so that the index still gives the rows in their order.
  const state = `(select f.crdt from ${versionTable(table)} f where ${sameKey(table, 'f.', 't.')})`;
  const crdt = fields === undefined ? undefined : { fields, state };
  const metadata = metadataColumn(table);
  if (request.filter !== null) {
    if (metadata === null) throw notSupported('filter', 'the table has no column for metadata');
    conditions.push(compileFilter(request.filter, { bind, column: `t.${quoteName(metadata)}`, crdt }));
  }
  if (shards !== null)
    conditions.push(
      `(select f.shard from ${versionTable(table)} f where ${sameKey(table, 'f.', 't.')}) = any(${bind(shards)}::int[])`,
    );
  if (request.maxDistance !== null) conditions.push(`${distance} <= ${bind(request.maxDistance)}`);
  // Under names of their own: a user's column may be called as one of ours.
  const key = table.key.map((part, at) => ({ ...part, name: `key${at}` }));
  const taken = [
    ...table.key.map(({ name }, at) => `t.${quoteName(name)} as key${at}`),
    `${column} as embedding`,
    ...(metadata === null ? [] : [`t.${quoteName(metadata)} as metadata`]),
  ];
  const nearest = `select ${taken.join(', ')}, ${distance} as distance from ${quoteTable({ schema: table.schema, name: table.table })} t where ${conditions.join(' and ')} order by ${distance} limit ${request.k}`;
  const columns = [`${idSql({ ...table, key }, 'n')} as id`, 'n.distance'];
  if (request.include.includes('embedding')) columns.push('n.embedding::text as embedding');
  if (request.include.includes('metadata'))
    columns.push(`${metadata === null ? 'null' : 'n.metadata::text'} as metadata`);
  const withVersion = request.include.includes('version');
  if (withVersion) columns.push('v.hlc::text as hlc', 'v.origin', 'v.counter::text as counter', 'v.clock');
  const withCrdt = request.include.includes('crdt');
  if (withCrdt) columns.push(`pgquorum.crdt_values(v.crdt, ${bind(JSON.stringify(fields))}::jsonb) as crdt`);
  const joined =
    withVersion || withCrdt
      ? ` left join ${versionTable(table)} v on ${table.key.map(({ name }, at) => `v.${quoteName(name)} = n.key${at}`).join(' and ')}`
      : '';
  return {
    text: `select ${columns.join(', ')} from (${nearest}) n${joined} order by n.distance, ${key.map(({ name }) => `n.${name}`).join(', ')}`,
    values,
  };
}

async function runSearch(
  client: pg.PoolClient,
  { definition, map }: CollectionRow,
  request: SearchRequest,
  run: { text: string; values: unknown[]; deadline: Deadline },
): Promise<Row[]> {
  const efSearch = Math.min(efSearchMax, Math.max(request.efSearch ?? efSearchDefault, request.k));
  const settings = [`set local statement_timeout = ${Math.max(1, Math.ceil(remainingMs(run.deadline)))}`];
  if (definition.index.type === 'hnsw') {
    settings.push(`set local hnsw.ef_search = ${efSearch}`);
    // Otherwise the index ends after ef_search rows, however few of them pass the filter.
    const filtered = request.filter !== null || request.maxDistance !== null || map !== undefined;
    if (filtered || request.k > efSearch)
      settings.push(
        'set local hnsw.iterative_scan = strict_order',
        `set local hnsw.max_scan_tuples = ${scanTuplesMax}`,
      );
  }
  const [begun, found] = await Promise.allSettled([
    client.query(`begin read only; ${settings.join('; ')}`),
    client.query<Row>(run.text, run.values),
  ]);
  await client.query('rollback');
  if (begun.status === 'rejected') throw begun.reason;
  if (found.status === 'rejected') throw found.reason;
  return found.value.rows;
}
