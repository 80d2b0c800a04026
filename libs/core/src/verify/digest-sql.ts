/**
 * What is compared between nodes, as SQL: a hash for each key over all that must be alike on every node that holds it, folded into one digest for each shard and
 * bucket of keys. Without `deep` only the version table and the open conflict records are read, no row and no vector; with it each row counts too, by the texts of its
 * columns (vectors by their binary form, which is as exact and takes a tenth of the time).
 *
 * What is under the purge horizon is left out on all nodes by the same horizon, which the caller gives ($1: shard -> clock): some may have purged it already, and what was
 * seen under it tells nothing. Hashes only find where to look: what is reported was looked at key by key (compare.ts). Pure.
 */
import type { TargetTable } from '../apply/target-table.ts';
import { keyTextSql, shardSql, versionTable } from '../collections/trigger.ts';
import { quoteName, quoteTable, quoteText } from '../postgres/identifier.ts';

/** Buckets of a shard. */
export const buckets = 256;

const hash = (text: string): string => `hashtextextended((${text}) collate "C", 0)`;
const bucketSql = (key: string): string => `(${hash(key)} & ${buckets - 1})::int`;

const vectorTypes: ReadonlySet<string> = new Set(['vector', 'halfvec', 'sparsevec']);

/** The columns that are compared: generated ones follow from the others. Nodes may have them in different orders. */
export const comparedColumns = (table: TargetTable): TargetTable['columns'] =>
  table.columns.filter((column) => !column.generated).toSorted((a, b) => (a.name < b.name ? -1 : 1));

/** Hash of a row; null where there is none. Each value by itself, so that none can pass for a part of another. */
function rowHash(table: TargetTable): string {
  const values = comparedColumns(table).map((column) => {
    const value = `t.${quoteName(column.name)}`;
    const text = vectorTypes.has(column.type)
      ? `encode(sha256(${column.sqlType.replace(/"?(\w+)"?$/, '$1_send')}(${value})), 'hex')`
      : `${value}::text`;
    return `coalesce(${hash(text)}::text, '-')`;
  });
  return `case when t.tableoid is null then null else ${hash(values.join(` || ',' || `))} end`;
}

const openRecords = (table: TargetTable): string =>
  `pgquorum.conflict c where c.collection = ${quoteText(table.collection)} and c.state = 'open'`;
const seen = 'coalesce(v.seen, v.clock)';
const horizon = `($1::jsonb -> v.shard::text)`;
const beyond = `(e.value)::bigint > coalesce((${horizon} ->> e.key)::bigint, 0)`;
const seenBeyond = `case when ${horizon} is null then ${seen} else (select coalesce(jsonb_object_agg(e.key, e.value), '{}') from jsonb_each(${seen}) e where ${beyond}) end`;
/** Counts as absent: `isPurged` of versioning/purge.ts. */
const purged = (table: TargetTable): string =>
  `(v.deleted and coalesce(pgquorum.clock_includes(${horizon}, ${seen}), false)
    and not exists (select from ${openRecords(table)} and c.key = ${keyTextSql(table, 'v.')}))`;
const versionText = `concat_ws('|', v.rank, v.epoch, v.hlc, v.origin, v.counter, v.deleted, v.clock, ${seenBeyond}, coalesce(v.crdt::text, '-'), coalesce(v.request::text, '-'))`;
const versionHash = (table: TargetTable): string =>
  `case when ${purged(table)} then null else ${hash(versionText)} end`;

const sameKey = (table: TargetTable, other: string): string =>
  table.key.map(({ name }) => `t.${quoteName(name)} = ${other}.${quoteName(name)}`).join(' and ');
const rowsOf = (table: TargetTable): string => quoteTable({ schema: table.schema, name: table.table });

/** Of each version its key (as one text, and by column), shard and hashes. */
function linesSql(table: TargetTable, deep: boolean): string {
  const columns = `${keyTextSql(table, 'v.')} as key, v.shard, ${versionHash(table)} as version_hash, ${table.key.map(({ name }, at) => `v.${quoteName(name)} as k${at}`).join(', ')}`;
  return deep
    ? `select ${columns}, ${rowHash(table)} as row_hash from ${versionTable(table)} v left join ${rowsOf(table)} t on ${sameKey(table, 'v')}`
    : `select ${columns}, null::bigint as row_hash from ${versionTable(table)} v`;
}

const loserHash = hash(`concat_ws('|', c.key, c.loser_origin, c.loser_counter)`);
/** $2 shards: digests of the buckets that have anything. */
export const digestsSql = (table: TargetTable, deep: boolean): string =>
  `select l.shard, l.bucket, count(l.key)::int as keys, bit_xor(l.line)::text as digest from (
    select k.shard, ${bucketSql('k.key')} as bucket, k.key, ${hash(`concat_ws('|', k.key, coalesce(k.version_hash::text, '-'), coalesce(k.row_hash::text, '-'))`)} as line
    from (${linesSql(table, deep)}) k where k.shard = any($2::int[]) and (k.version_hash is not null or k.row_hash is not null)
    union all
    select c.shard, ${bucketSql('c.key')}, null, ${loserHash} from ${openRecords(table)} and c.shard = any($2::int[])
  ) l group by l.shard, l.bucket`;

const list = (table: TargetTable, of: (at: number) => string): string =>
  table.key.map((_, at) => of(at)).join(', ');
const keyOrder = (table: TargetTable): string => list(table, (at) => `k.k${at}`);
const keyTexts = (table: TargetTable): string => list(table, (at) => `k.k${at}::text`);

/** $2 shard, $3 buckets, $4 most keys, then the texts of the bounds that there are: keys in key order with their hashes. */
export function keysSql(
  table: TargetTable,
  options: { readonly deep: boolean; readonly after: boolean; readonly upTo: boolean },
): string {
  const bound = (operator: string, first: number): string =>
    ` and (${keyOrder(table)}) ${operator} (${table.key.map((key, at) => `$${first + at}::text::${key.type}`).join(', ')})`;
  const after = options.after ? bound('>', 5) : '';
  const upTo = options.upTo ? bound('<=', 5 + (options.after ? table.key.length : 0)) : '';
  return `select ${keyTexts(table)}, concat_ws('|', coalesce(k.version_hash::text, '-'), coalesce(k.row_hash::text, '-'), (select bit_xor(${loserHash}) from ${openRecords(table)} and c.key = k.key))
    from (${linesSql(table, options.deep)}) k where k.shard = $2 and ${bucketSql('k.key')} = any($3::int[])${after}${upTo} order by ${keyOrder(table)} limit $4`;
}

const keyArrays = (table: TargetTable, first: number): string =>
  list(table, (at) => `$${first + at}::text[]`);
const names = (table: TargetTable): string => list(table, (at) => `k${at}`);

/** The first of some keys in key order; they are arrays of texts, one for each column. */
export const firstKeySql = (table: TargetTable): string =>
  `select ${keyTexts(table)} from (select ${table.key.map((key, at) => `u.k${at}::${key.type} as k${at}`).join(', ')} from unnest(${keyArrays(table, 1)}) u(${names(table)})) k order by ${keyOrder(table)} limit 1`;

/** From $2 on arrays of key texts: all that is compared and told of these keys, in one snapshot. */
export function viewsSql(table: TargetTable, deep: boolean): string {
  const on = (alias: string) =>
    table.key.map((key, at) => `${alias}.${quoteName(key.name)} = u.k${at}::${key.type}`).join(' and ');
  const text = table.key.length === 1 ? 'u.k0' : `pgquorum.key_text(${list(table, (at) => `u.k${at}`)})`;
  return `select u.place::int as place, v.origin, v.counter::text as counter, v.hlc::text as hlc, v.deleted, ${seen} as seen,
      ${purged(table)} as purged, case when v.shard is null then null else ${versionHash(table)} end::text as version_hash,
      t.tableoid is not null as present, ${deep ? rowHash(table) : 'null'}::text as row_hash,
      (select string_agg(c.loser_origin || '.' || c.loser_counter, ' ' order by c.loser_origin, c.loser_counter) from ${openRecords(table)} and c.key = ${text}) as losers
    from unnest(${keyArrays(table, 2)}) with ordinality u(${names(table)}, place)
    left join ${versionTable(table)} v on ${on('v')} left join ${rowsOf(table)} t on ${on('t')}`;
}

/** Rows without a version, $1 at most. */
export const unversionedSql = (table: TargetTable): string =>
  `select ${table.key.map(({ name }) => `t.${quoteName(name)}::text`).join(', ')}, (${shardSql(table, 't.')})::int
   from ${rowsOf(table)} t where not exists (select from ${versionTable(table)} v where ${sameKey(table, 'v')}) limit $1`;

/** $1 shard, $2 buckets, $3 at most: keys that have open records and no version. */
export const looseRecordsSql = (table: TargetTable): string =>
  `select distinct on (c.key) c.key_texts as key from ${openRecords(table)} and c.shard = $1 and ${bucketSql('c.key')} = any($2::int[])
     and not exists (select from ${versionTable(table)} v where ${table.key.map((key, at) => `v.${quoteName(key.name)} = (c.key_texts ->> ${at})::${key.type}`).join(' and ')}) order by c.key limit $3`;
