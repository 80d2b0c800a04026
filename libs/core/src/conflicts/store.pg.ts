/** Conflict records as they are listed. They are replicated, so that any node answers. */
import { PgquorumError } from '../errors/error.ts';
import type { Deadline } from '../postgres/deadline.ts';
import { checkCollectionName, integerIn, invalid, oneOf, unknownField } from '../requests/fields.ts';
import { isNodeFailure, onFirst, type Nodes } from '../topology/nodes.pg.ts';
import { conflictJsonSql } from './record.ts';
import { conflictView, type ConflictView, type StoredConflict } from './view.ts';

const limitDefault = 100;
const limitMax = 1000;
const states = ['open', 'superseded', 'resolved', 'restored'] as const;

export interface ConflictQuery {
  readonly collection: string | null;
  readonly key: string | null;
  readonly state: (typeof states)[number] | null;
  readonly limit: number;
  readonly after: { readonly foundAt: string; readonly id: string } | null;
}

export function parseConflictQuery(query: Readonly<Record<string, unknown>>): ConflictQuery {
  const known = ['collection', 'key', 'state', 'limit', 'cursor'];
  for (const field of Object.keys(query)) if (!known.includes(field)) throw unknownField(field);
  const { collection, key, state, limit, cursor } = query;
  if (collection !== undefined) checkCollectionName(String(collection));
  if (key !== undefined && (typeof key !== 'string' || key.includes('\0')))
    throw invalid('key: must be a text without the character NUL');
  return {
    collection: collection === undefined ? null : String(collection),
    key: key ?? null,
    state: state === undefined ? null : oneOf('state', state, states),
    limit: limit === undefined ? limitDefault : integerIn('limit', limit, { min: 1, max: limitMax }),
    after: cursor === undefined ? null : parseCursor(cursor),
  };
}

const uuid = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/;

export function checkConflictId(id: string): string {
  const lower = id.toLowerCase();
  if (!uuid.test(lower)) throw new PgquorumError('conflict_not_found', 'the id of a conflict is a uuid');
  return lower;
}

function parseCursor(cursor: unknown): { foundAt: string; id: string } {
  try {
    const [foundAt, id] = JSON.parse(Buffer.from(String(cursor), 'base64url').toString()) as unknown[];
    if (
      typeof foundAt === 'string' &&
      /^\d{4}-[\dT:.Z-]{10,30}$/.test(foundAt) &&
      typeof id === 'string' &&
      uuid.test(id)
    )
      return { foundAt, id };
  } catch {
    // falls through: it is no cursor of ours
  }
  throw invalid('cursor: is not one that a list has given');
}

const makeCursor = (row: StoredConflict): string =>
  Buffer.from(JSON.stringify([row.foundAt, row.record.id])).toString('base64url');

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
    const values: unknown[] = [];
    const bind = (value: unknown): string => `$${values.push(value)}`;
    const conditions = ['true'];
    if (query.collection !== null) conditions.push(`c.collection = ${bind(query.collection)}`);
    if (query.key !== null) conditions.push(`c.key = ${bind(query.key)}`);
    if (query.state !== null) conditions.push(`c.state = ${bind(query.state)}`);
    if (query.after !== null) {
      const foundAt = bind(query.after.foundAt);
      conditions.push(
        `(c.found_at < ${foundAt}::timestamptz or (c.found_at = ${foundAt}::timestamptz and c.id > ${bind(query.after.id)}::uuid))`,
      );
    }
    const text = `${selectSql} where ${conditions.join(' and ')} order by c.found_at desc, c.id limit ${query.limit + 1}`;
    const { rows } = await onFirst(this.#stableOrder(), deadline, (client) =>
      client.query<StoredConflict>(text, values),
    );
    const page = rows.slice(0, query.limit);
    const last = page.at(-1);
    return {
      items: page.map((row) => this.#view(row)),
      ...(rows.length > query.limit && last !== undefined ? { nextCursor: makeCursor(last) } : {}),
    };
  }

  async get(id: string, deadline: Deadline): Promise<ConflictView> {
    const values = [checkConflictId(id)];
    let failed: unknown = null;
    for (const node of this.#stableOrder()) {
      try {
        const { rows } = await node.run(deadline, (client) =>
          client.query<StoredConflict>(`${selectSql} where c.id = $1`, values),
        );
        if (rows[0] !== undefined) return this.#view(rows[0]);
      } catch (cause) {
        if (!isNodeFailure(cause)) throw cause;
        failed = cause;
      }
    }
    if (failed !== null && this.#nodes.live.length === 0)
      throw new PgquorumError('replicas_unavailable', 'no node can be read', { cause: failed });
    throw new PgquorumError('conflict_not_found', `conflict ${id}`);
  }

  #view(row: StoredConflict): ConflictView {
    return conflictView(row, (number) => this.#nodes.nameOf(number));
  }

  /** The same node for every page. */
  #stableOrder() {
    return this.#nodes.inOrder(
      this.#nodes.all.map((node) => node.name),
      'nearest',
    );
  }
}
