/** What a list of dead letters can be asked for, and their ids: a letter belongs to the node that can not take the change, `<node>.<number>`. Pure. */
import { nodeNamePattern } from '../config/settings.ts';
import { PgquorumError } from '../errors/error.ts';
import { checkCollectionName, integerIn, invalid, unknownField } from '../requests/fields.ts';
import { checkTime } from '../requests/time.ts';

const limitDefault = 100;
const limitMax = 1000;

export interface LetterId {
  readonly node: string;
  readonly number: string;
}

export interface LetterFilter {
  /** Name of the node that keeps it. */
  readonly node: string | null;
  /** Name of the node that took the write. */
  readonly origin: string | null;
  readonly collection: string | null;
  readonly key: string | null;
  readonly sqlstate: string | null;
  /** When it was put aside: from `since` on, before `until`. */
  readonly since: string | null;
  readonly until: string | null;
}

/** Where a page ends. */
export interface LetterPosition extends LetterId {
  readonly at: string;
}

export interface LetterQuery extends LetterFilter {
  readonly limit: number;
  readonly after: LetterPosition | null;
}

type Parameters = Readonly<Record<string, unknown>>;

const filters = ['node', 'origin', 'collection', 'key', 'sqlstate', 'since', 'until'];

export function parseLetterQuery({ limit, cursor, ...query }: Parameters): LetterQuery {
  for (const field of Object.keys(query)) if (!filters.includes(field)) throw unknownField(field);
  const collection = textOf(query, 'collection');
  if (collection !== null) checkCollectionName(collection);
  const sqlstate = textOf(query, 'sqlstate');
  if (sqlstate !== null && !/^[0-9A-Z]{2,5}$/.test(sqlstate))
    throw invalid('sqlstate: must be a SQLSTATE, or its class: the first two letters');
  return {
    node: textOf(query, 'node'),
    origin: textOf(query, 'origin'),
    collection,
    key: textOf(query, 'key'),
    sqlstate,
    since: timeOf(query, 'since'),
    until: timeOf(query, 'until'),
    limit: limit === undefined ? limitDefault : integerIn('limit', limit, { min: 1, max: limitMax }),
    after: cursor === undefined ? null : parseCursor(cursor),
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

export function parseLetterId(id: string): LetterId {
  const [, node, number] = /^([a-z][a-z0-9_-]{0,31})\.([1-9]\d{0,18})$/.exec(id) ?? [];
  if (node === undefined || number === undefined || BigInt(number) >= 1n << 63n)
    throw new PgquorumError('dead_letter_not_found', 'the id of a dead letter is <node>.<number>');
  return { node, number };
}

export const letterIdText = ({ node, number }: LetterId): string => `${node}.${number}`;

function parseCursor(cursor: unknown): LetterPosition {
  try {
    const [at, node, number] = JSON.parse(Buffer.from(String(cursor), 'base64url').toString()) as unknown[];
    if (
      typeof at === 'string' &&
      /^\d{4}-[\dT:.Z-]{10,30}$/.test(at) &&
      typeof node === 'string' &&
      nodeNamePattern.test(node) &&
      typeof number === 'string' &&
      /^\d{1,19}$/.test(number)
    )
      return { at, node, number };
  } catch {
    // falls through: it is no cursor of ours
  }
  throw invalid('cursor: is not one that a list has given');
}

export const makeCursor = ({ at, node, number }: LetterPosition): string =>
  Buffer.from(JSON.stringify([at, node, number])).toString('base64url');

/** Newest first; at one time by the node's name, then by number, the last one first. */
export function compareLetters(a: LetterPosition, b: LetterPosition): number {
  if (a.at !== b.at) return a.at < b.at ? 1 : -1;
  if (a.node !== b.node) return a.node < b.node ? -1 : 1;
  const difference = BigInt(b.number) - BigInt(a.number);
  return difference > 0n ? 1 : difference < 0n ? -1 : 0;
}

/** SQL conditions on pgquorum.dead_letter d, as `node` has it. */
export function letterConditions(
  query: LetterQuery,
  node: string,
  bind: (value: unknown) => string,
): string[] {
  const conditions: string[] = ['true'];
  if (query.collection !== null) conditions.push(`d.collection = ${bind(query.collection)}`);
  if (query.key !== null) conditions.push(`d.key = ${bind(query.key)}`);
  if (query.sqlstate !== null) conditions.push(`starts_with(d.sqlstate, ${bind(query.sqlstate)})`);
  if (query.origin !== null)
    conditions.push(
      `d.origin = any(array(select m.number from pgquorum.member m where m.name = ${bind(query.origin)}))`,
    );
  if (query.since !== null) conditions.push(`d.at >= ${bind(query.since)}::timestamptz`);
  if (query.until !== null) conditions.push(`d.at < ${bind(query.until)}::timestamptz`);
  if (query.after !== null) conditions.push(afterCondition(query.after, node, bind));
  return conditions;
}

function afterCondition(after: LetterPosition, node: string, bind: (value: unknown) => string): string {
  const at = `${bind(after.at)}::timestamptz`;
  if (node < after.node) return `d.at < ${at}`;
  if (node > after.node) return `d.at <= ${at}`;
  return `(d.at, d.id) < (${at}, ${bind(after.number)}::bigint)`;
}
