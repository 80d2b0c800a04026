/** What a list of conflict records can be asked for. Pure. */
import { PgquorumError } from '../errors/error.ts';
import { checkCollectionName, integerIn, invalid, oneOf, unknownField } from '../requests/fields.ts';
import { checkTime } from '../requests/time.ts';

const limitDefault = 100;
const limitMax = 1000;
export const states = ['open', 'superseded', 'resolved', 'restored'] as const;
export const kinds = [
  'update-update',
  'update-delete',
  'delete-update',
  'delete-delete',
  'insert-insert',
  'model-guard',
  'returned',
  'replaced',
] as const;

export interface ConflictFilter {
  readonly collection: string | null;
  readonly key: string | null;
  readonly state: (typeof states)[number] | null;
  readonly kind: (typeof kinds)[number] | null;
  /** Name of the node that took the losing write. */
  readonly origin: string | null;
  /** When it was found: from `since` on, before `until`. */
  readonly since: string | null;
  readonly until: string | null;
  readonly noise: boolean | null;
}

/** Where a page ends. */
export interface ListPosition {
  readonly foundAt: string;
  readonly id: string;
}

export interface ConflictQuery extends ConflictFilter {
  readonly limit: number;
  readonly after: ListPosition | null;
}

type Parameters = Readonly<Record<string, unknown>>;

const filters = ['collection', 'key', 'state', 'kind', 'origin', 'since', 'until', 'noise'];

export function parseConflictQuery(query: Parameters): ConflictQuery {
  const { limit, cursor, ...filter } = query;
  return {
    ...parseConflictFilter(filter),
    limit: limit === undefined ? limitDefault : integerIn('limit', limit, { min: 1, max: limitMax }),
    after: cursor === undefined ? null : parseCursor(cursor),
  };
}

export function parseConflictFilter(query: Parameters): ConflictFilter {
  for (const field of Object.keys(query)) if (!filters.includes(field)) throw unknownField(field);
  const { collection, state, kind, noise } = query;
  if (collection !== undefined) checkCollectionName(String(collection));
  return {
    collection: collection === undefined ? null : String(collection),
    key: textOf(query, 'key'),
    state: state === undefined ? null : oneOf('state', state, states),
    kind: kind === undefined ? null : oneOf('kind', kind, kinds),
    origin: textOf(query, 'origin'),
    since: timeOf(query, 'since'),
    until: timeOf(query, 'until'),
    noise: noise === undefined ? null : oneOf('noise', String(noise), ['true', 'false']) === 'true',
  };
}

function textOf(query: Parameters, field: string): string | null {
  const value = query[field];
  if (value === undefined) return null;
  if (typeof value !== 'string' || value.includes('\0'))
    throw invalid(`${field}: must be a text without the character NUL`);
  return value;
}

function timeOf(query: Parameters, field: string): string | null {
  const value = query[field];
  return value === undefined ? null : checkTime(field, value);
}

const uuid = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/;

export function checkConflictId(id: string): string {
  const lower = id.toLowerCase();
  if (!uuid.test(lower)) throw new PgquorumError('conflict_not_found', 'the id of a conflict is a uuid');
  return lower;
}

function parseCursor(cursor: unknown): ListPosition {
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

export const makeCursor = ({ foundAt, id }: ListPosition): string =>
  Buffer.from(JSON.stringify([foundAt, id])).toString('base64url');

/** SQL conditions on pgquorum.conflict c; noise is not among them, since it needs the collection's table. */
export function filterConditions(filter: ConflictFilter, bind: (value: unknown) => string): string[] {
  const conditions: string[] = [];
  if (filter.collection !== null) conditions.push(`c.collection = ${bind(filter.collection)}`);
  if (filter.key !== null) conditions.push(`c.key = ${bind(filter.key)}`);
  if (filter.state !== null) conditions.push(`c.state = ${bind(filter.state)}`);
  if (filter.kind !== null) conditions.push(`c.kind = ${bind(filter.kind)}`);
  if (filter.origin !== null)
    conditions.push(
      `c.loser_origin = any(array(select m.number from pgquorum.member m where m.name = ${bind(filter.origin)}))`,
    );
  if (filter.since !== null) conditions.push(`c.found_at >= ${bind(filter.since)}::timestamptz`);
  if (filter.until !== null) conditions.push(`c.found_at < ${bind(filter.until)}::timestamptz`);
  return conditions;
}
