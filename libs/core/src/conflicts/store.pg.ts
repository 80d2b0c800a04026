/** Conflict records as they are listed and counted. They are replicated to all that hold their shard (seats.pg.ts). */
import type pg from 'pg';
import { listCollections, readCollection, type CollectionRow } from '../collections/catalog.pg.ts';
import { PgquorumError } from '../errors/error.ts';
import type { Deadline } from '../postgres/deadline.ts';
import { isNodeFailure, type Nodes } from '../topology/nodes.pg.ts';
import { currentJoinSql, noiseSql, type NoiseOptions } from './noise.ts';
import { checkConflictId, filterConditions, makeCursor } from './query.ts';
import type { ConflictFilter, ConflictQuery, ListPosition } from './query.ts';
import { mergePages, type Page } from './pages.ts';
import { conflictJsonSql } from './record.ts';
import { askSeats, seatCondition, type Seat } from './seats.pg.ts';
import { readAttempts } from './resolver-attempts.pg.ts';
import { columnsSql, type TableColumn } from './row-statements.ts';
import { conflictView, type ConflictView, type CurrentVersion, type StoredConflict } from './view.ts';

/** Records looked at for one page when noise is filtered: a page may be short, and its cursor goes on from there. */
const noiseScanMax = 5000;

export interface ConflictCount {
  readonly collection: string;
  readonly state: string;
  readonly kind: string;
  readonly count: number;
}

/** Microseconds, so that a page ends exactly where the next begins. */
const selectSql = `select ${conflictJsonSql('c')} as record, to_char(c.found_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') as "foundAt" from pgquorum.conflict c`;

export class ConflictStore {
  readonly #nodes: Nodes;

  constructor(nodes: Nodes) {
    this.#nodes = nodes;
  }

  /** Newest first. When a node was found is its own time, so a page after a failover may repeat a record. */
  async list(
    query: ConflictQuery,
    deadline: Deadline,
  ): Promise<{ items: ConflictView[]; nextCursor?: string }> {
    const pages = await askSeats(this.#stableOrder(), deadline, (client, seat) =>
      readPage(client, { ...query, seat }),
    );
    const { rows, more } = mergePages(pages, query.limit, positionOf);
    return {
      items: await this.#views(rows, deadline),
      ...(more === null ? {} : { nextCursor: makeCursor(more) }),
    };
  }

  async get(id: string, deadline: Deadline): Promise<ConflictView> {
    const values = [checkConflictId(id)];
    let failed: unknown = null;
    for (const node of this.#stableOrder()) {
      try {
        const [found] = await node.run(deadline, async (client) =>
          compared(client, (await client.query<StoredConflict>(`${selectSql} where c.id = $1`, values)).rows),
        );
        if (found !== undefined) return (await this.#views([found], deadline))[0]!;
      } catch (cause) {
        if (!isNodeFailure(cause)) throw cause;
        failed = cause;
      }
    }
    if (failed !== null && this.#nodes.live.length === 0)
      throw new PgquorumError('replicas_unavailable', 'no node can be read', { cause: failed });
    throw new PgquorumError('conflict_not_found', `conflict ${id}`);
  }

  /** By collection, state and kind. */
  async count(
    filter: ConflictFilter,
    deadline: Deadline,
  ): Promise<{ items: ConflictCount[]; total: number }> {
    const counts = await askSeats(this.#stableOrder(), deadline, (client, seat) =>
      countOn(client, { ...filter, seat }),
    );
    const items = addCounts(counts.flat());
    return { items, total: items.reduce((sum, { count }) => sum + count, 0) };
  }

  async #views(rows: readonly ComparedConflict[], deadline: Deadline): Promise<ConflictView[]> {
    const open = rows.filter(({ record }) => record.state === 'open').map(({ record }) => record.id);
    const attempts = await readAttempts(this.#nodes, open, deadline);
    return rows.map((row) =>
      conflictView({ ...row, attempt: attempts.get(row.record.id) ?? null }, (number) =>
        this.#nodes.nameOf(number),
      ),
    );
  }

  /** The same node for every page. */
  #stableOrder() {
    return this.#nodes.inOrder(
      this.#nodes.all.map((node) => node.name),
      'nearest',
    );
  }
}

type ComparedConflict = StoredConflict & {
  readonly noise: boolean | null;
  readonly current: CurrentVersion | null;
};

interface Seated {
  readonly seat: Seat | null;
}

/** The same kinds of several nodes, in the order of one. */
function addCounts(counts: readonly ConflictCount[]): ConflictCount[] {
  const groups = Map.groupBy(counts, ({ collection, state, kind }) =>
    JSON.stringify([collection, state, kind]),
  );
  return [...groups]
    .toSorted(([a], [b]) => (a < b ? -1 : 1))
    .map(([, same]) => ({ ...same[0]!, count: same.reduce((sum, { count }) => sum + count, 0) }));
}

async function readPage(
  client: pg.ClientBase,
  query: ConflictQuery & Seated,
): Promise<Page<ComparedConflict>> {
  const kept: ComparedConflict[] = [];
  let after = query.after;
  for (let looked = 0; ;) {
    const rows = await readRows(client, query, after);
    const page = rows.slice(0, query.limit);
    for (const row of await compared(client, page)) {
      if (query.noise !== null && row.noise !== query.noise) continue;
      kept.push(row);
      if (kept.length === query.limit) {
        const position = positionOf(row);
        return { rows: kept, more: row.record.id === rows.at(-1)!.record.id ? null : position };
      }
    }
    if (rows.length <= query.limit) return { rows: kept, more: null };
    after = positionOf(page.at(-1)!);
    looked += page.length;
    if (looked >= noiseScanMax) return { rows: kept, more: after };
  }
}

const positionOf = (row: StoredConflict): ListPosition => ({ foundAt: row.foundAt, id: row.record.id });

/** One more than the limit. */
async function readRows(
  client: pg.ClientBase,
  query: ConflictQuery & Seated,
  after: ListPosition | null,
): Promise<StoredConflict[]> {
  const values: unknown[] = [];
  const bind = (value: unknown): string => `$${values.push(value)}`;
  const conditions = [seatCondition(query.seat, bind), ...filterConditions(query, bind)];
  if (after !== null) {
    const foundAt = bind(after.foundAt);
    conditions.push(
      `(c.found_at < ${foundAt}::timestamptz or (c.found_at = ${foundAt}::timestamptz and c.id > ${bind(after.id)}::uuid))`,
    );
  }
  const text = `${selectSql} where ${conditions.join(' and ')} order by c.found_at desc, c.id limit ${query.limit + 1}`;
  return (await client.query<StoredConflict>(text, values)).rows;
}

/** With what the keys are now. */
async function compared(client: pg.ClientBase, rows: readonly StoredConflict[]): Promise<ComparedConflict[]> {
  const found = new Map<string, { noise: boolean; current: CurrentVersion | null }>();
  for (const [name, records] of Map.groupBy(rows, (row) => row.record.collection)) {
    const collection = await readCollection(client, name);
    if (collection === null) continue;
    const options = await noiseOptions(client, collection);
    const { rows: facts } = await client.query<{
      id: string;
      noise: boolean;
      current: CurrentVersion | null;
    }>(
      `select c.id, ${noiseSql(options)} as noise,
         case when v.hlc is not null then jsonb_build_object('hlc', v.hlc::text, 'origin', v.origin, 'counter', v.counter::text, 'clock', v.clock, 'deleted', v.deleted) end as current
       from ${currentJoinSql(options)} where c.id = any($1::uuid[])`,
      [records.map((row) => row.record.id)],
    );
    for (const fact of facts) found.set(fact.id, fact);
  }
  return rows.map((row) => ({ ...row, noise: null, current: null, ...found.get(row.record.id) }));
}

async function noiseOptions(
  client: pg.ClientBase,
  { table, definition }: CollectionRow,
): Promise<NoiseOptions> {
  const { rows: columns } = await client.query<TableColumn>(columnsSql, [table.schema, table.table]);
  return { table, columns, cosineTolerance: definition.conflicts.cosineTolerance };
}

async function countOn(client: pg.ClientBase, filter: ConflictFilter & Seated): Promise<ConflictCount[]> {
  if (filter.noise === null)
    return countFrom(client, filter, { from: 'pgquorum.conflict c', conditions: [] });
  const collections =
    filter.collection === null
      ? await listCollections(client)
      : [await readCollection(client, filter.collection)].filter((one) => one !== null);
  const counts: ConflictCount[] = [];
  for (const collection of collections) {
    const options = await noiseOptions(client, collection);
    const only = { ...filter, collection: collection.name };
    const conditions = [`(${noiseSql(options)}) = ${filter.noise}`];
    counts.push(...(await countFrom(client, only, { from: currentJoinSql(options), conditions })));
  }
  return counts;
}

async function countFrom(
  client: pg.ClientBase,
  filter: ConflictFilter & Seated,
  { from, conditions }: { readonly from: string; readonly conditions: readonly string[] },
): Promise<ConflictCount[]> {
  const values: unknown[] = [];
  const bind = (value: unknown): string => `$${values.push(value)}`;
  const where = [seatCondition(filter.seat, bind), ...filterConditions(filter, bind), ...conditions];
  const { rows } = await client.query<Omit<ConflictCount, 'count'> & { count: string }>(
    `select c.collection, c.state, c.kind, count(*)::text as count from ${from} where ${where.join(' and ')} group by 1, 2, 3 order by 1, 2, 3`,
    values,
  );
  return rows.map((row) => ({ ...row, count: Number(row.count) }));
}
