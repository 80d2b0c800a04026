/**
 * How routes address the rows of a collection: by the canonical text of the key, of a composite one by the JSON array of its texts. In tables of our own that is
 * the column id. Pure.
 */
import { PgquorumError } from '../errors/error.ts';
import { quoteName, quoteText } from '../postgres/identifier.ts';
import type { CollectionTable, KeyColumn } from './definition.ts';
import { keyTextSql } from './trigger.ts';

/** A cast would cut a text that is too long to what fits, and find another row. */
const typeOf = ({ type }: KeyColumn): string =>
  type === 'text' || type.startsWith('character varying') ? 'text' : type;

const partSql = (table: CollectionTable, text: string, at: number): string =>
  table.key.length === 1
    ? `(${text})::${typeOf(table.key[0]!)}`
    : `((${text})::jsonb ->> ${at})::${typeOf(table.key[at]!)}`;

/** The key's columns from its text, in their order. */
export const keyPartsSql = (table: CollectionTable, text: string): string =>
  table.key.map((_, at) => partSql(table, text, at)).join(', ');

export const keyColumnsSql = (table: CollectionTable, prefix = ''): string =>
  table.key.map(({ name }) => `${prefix}${quoteName(name)}`).join(', ');

/** The row of `alias` has the key with this text. */
export const hasIdSql = (table: CollectionTable, alias: string, text: string): string =>
  table.key.map(({ name }, at) => `${alias}.${quoteName(name)} = ${partSql(table, text, at)}`).join(' and ');

/** The row of `alias` has one of the keys whose texts are $1. */
export function hasAnyIdSql(table: CollectionTable, alias: string): string {
  const [only, ...others] = table.key;
  if (others.length > 0)
    return `(${keyColumnsSql(table, `${alias}.`)}) in (select ${keyPartsSql(table, 'k')} from unnest($1::text[]) k)`;
  const type = typeOf(only!);
  return `${alias}.${quoteName(only!.name)} = any($1::text[]${type === 'text' ? '' : `::${type}[]`})`;
}

export const idSql = (table: CollectionTable, alias: string): string => keyTextSql(table, `${alias}.`);

/** The columns that routes call embedding and metadata; null where an attached table has none. */
export const embeddingColumn = ({ attached }: CollectionTable): string | null =>
  attached === undefined ? 'embedding' : attached.embedding;
export const metadataColumn = ({ attached }: CollectionTable): string | null =>
  attached === undefined ? 'metadata' : attached.metadata;

/** What a row of `alias` has in a column, as text. */
export const columnTextSql = (alias: string, column: string | null): string =>
  column === null ? 'null::text' : `${alias}.${quoteName(column)}::text`;

/** Refuses an id that is not the canonical text of a key: its shard would be another than its row's. */
export function checkId(table: CollectionTable, id: string): void {
  const parts = table.key.length === 1 ? [id] : partsOf(table, id);
  for (const [at, text] of parts.entries()) checkPart(table.key[at]!, text);
}

function partsOf(table: CollectionTable, id: string): string[] {
  const wanted = `the JSON array of ${table.key.map(({ name }) => quoteText(name).trim()).join(', ')} as texts, without spaces`;
  let parts: unknown;
  try {
    parts = JSON.parse(id);
  } catch {
    parts = null;
  }
  if (
    !Array.isArray(parts) ||
    parts.length !== table.key.length ||
    !parts.every((part): part is string => typeof part === 'string') ||
    JSON.stringify(parts) !== id
  )
    throw new PgquorumError('invalid_key', `id: must be ${wanted}`);
  return parts;
}

const integers: Readonly<Record<string, bigint>> = {
  smallint: 1n << 15n,
  integer: 1n << 31n,
  bigint: 1n << 63n,
};
const patterns: Readonly<Record<string, RegExp>> = {
  uuid: /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/,
  boolean: /^(true|false)$/,
  date: /^\d{4}-\d{2}-\d{2}$/,
  bytea: /^\\x([0-9a-f]{2})*$/,
};

function checkPart({ name, type }: KeyColumn, text: string): void {
  const limit = integers[type];
  const fits =
    limit === undefined
      ? (patterns[type]?.test(text) ?? true) && (type !== 'date' || isDate(text))
      : /^(0|-?[1-9]\d{0,18})$/.test(text) && BigInt(text) >= -limit && BigInt(text) < limit;
  if (!fits || text.includes('\0'))
    throw new PgquorumError('invalid_key', `id: ${quoteName(name)} must be a ${type} as Postgres writes it`);
}

function isDate(text: string): boolean {
  const at = new Date(`${text}T00:00:00Z`);
  return !Number.isNaN(at.getTime()) && at.toISOString().startsWith(text);
}
