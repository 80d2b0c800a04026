/** The k nearest, from one node: every node holds every shard, so that one covers them all. */
import type pg from 'pg';
import type { CollectionRow } from '../collections/catalog.pg.ts';
import { metricOperators, typeSql } from '../collections/definition.ts';
import type { CollectionDirectory } from '../collections/directory.pg.ts';
import { embeddingColumn, idSql, metadataColumn } from '../collections/row-address.ts';
import { versionTable } from '../collections/trigger.ts';
import { sameKey } from '../collections/unversioned-rows.ts';
import { PgquorumError } from '../errors/error.ts';
import type { Deadline } from '../postgres/deadline.ts';
import { quoteName, quoteTable } from '../postgres/identifier.ts';
import { isStaleDefinition, requestError } from '../postgres/request-error.ts';
import { remainingMs } from '../postgres/session.pg.ts';
import type { Reader } from '../reads/reader.pg.ts';
import { shardOfKey } from '../placement/key-hash.ts';
import { notSupported } from '../requests/fields.ts';
import { parseLossless } from '../requests/lossless-json.ts';
import { onFirst, type Nodes } from '../topology/nodes.pg.ts';
import { versionView, type VersionColumns, type VersionView } from '../versioning/version-view.ts';
import { embeddingOfText, textOfEmbedding, type EmbeddingView } from '../writes/embedding.ts';
import { compileFilter } from './filter.ts';
import { checkDirection, efSearchMax, scoreOf, type SearchRequest } from './request.ts';

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
    const near = await this.#nearText(collection, request, deadline);
    const { text, values } = searchSql(collection, request, near);
    try {
      const { rows, node } = await onFirst(this.#nodes.anyOrder(), deadline, async (client, from) => ({
        rows: await runSearch(client, collection, request, { text, values, deadline }),
        node: from.name,
      }));
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

  async #nearText(collection: CollectionRow, { near }: SearchRequest, deadline: Deadline): Promise<string> {
    if (near.kind === 'embedding') return textOfEmbedding(near.embedding);
    const stored = await this.#reader.get(
      collection,
      { id: near.id, shard: shardOfKey(near.id, collection.table.shards) },
      { deadline, siblings: false },
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

/** The nearest are found first, in the form that the index answers; versions and texts are added to the few that remain. */
function searchSql(
  { table, definition }: CollectionRow,
  request: SearchRequest,
  near: string,
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
  { definition }: CollectionRow,
  request: SearchRequest,
  run: { text: string; values: unknown[]; deadline: Deadline },
): Promise<Row[]> {
  const efSearch = Math.min(efSearchMax, Math.max(request.efSearch ?? efSearchDefault, request.k));
  const settings = [`set local statement_timeout = ${Math.max(1, Math.ceil(remainingMs(run.deadline)))}`];
  if (definition.index.type === 'hnsw') {
    settings.push(`set local hnsw.ef_search = ${efSearch}`);
    // Otherwise the index ends after ef_search rows, however few of them pass the filter.
    if (request.filter !== null || request.maxDistance !== null || request.k > efSearch)
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
