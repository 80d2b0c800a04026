/** The SQL of folding, for a collection's table. Keys come as one array of texts for each key column. Pure. */
import type { CollectionTable } from '../collections/definition.ts';
import { versionTable } from '../collections/trigger.ts';
import { quoteName, quoteTable } from '../postgres/identifier.ts';

/** Key texts (pgquorum.key_text) as the parameters of these statements. */
export function keyArrays(table: CollectionTable, keys: readonly string[]): string[][] {
  const texts = keys.map((key) => (table.key.length === 1 ? [key] : (JSON.parse(key) as string[])));
  return table.key.map((_, at) => texts.map((one) => one[at]!));
}

const wantedKeys = (table: CollectionTable): string =>
  `unnest(${table.key.map((_, at) => `$${at + 1}::text[]`).join(', ')}) with ordinality k(${table.key.map((_, at) => `k${at}`).join(', ')}, place)`;
const match = (table: CollectionTable, alias: string): string =>
  table.key
    .map((column, at) => `${alias}.${quoteName(column.name)} = k.k${at}::${column.type}`)
    .join(' and ');
const order = (table: CollectionTable, alias: string): string =>
  table.key.map((column) => `${alias}.${quoteName(column.name)}`).join(', ');

/** What the node that is asked has seen of the keys, and who it is. */
export const seenSql = (table: CollectionTable): string =>
  `select k.place::int as place, n.number, coalesce(v.seen, v.clock) as seen from ${wantedKeys(table)} join ${versionTable(table)} v on ${match(table, 'v')} cross join pgquorum.node n`;

export const statesSql = (table: CollectionTable): string =>
  `select k.place::int as place, n.number, coalesce(v.seen, v.clock) as seen, v.crdt, v.deleted from ${wantedKeys(table)} join ${versionTable(table)} v on ${match(table, 'v')} cross join pgquorum.node n`;

/** `skip` leaves out what someone else has locked. */
export const lockRowsSql = (table: CollectionTable, skip: boolean): string =>
  `select k.place::int as place from ${wantedKeys(table)} join ${quoteTable({ schema: table.schema, name: table.table })} t on ${match(table, 't')} order by ${order(table, 't')} for no key update of t${skip ? ' skip locked' : ''}`;
export const lockStatesSql = (table: CollectionTable, skip: boolean): string =>
  `${statesSql(table)} order by ${order(table, 'v')} for no key update of v${skip ? ' skip locked' : ''}`;

/** The rest of the parameters: states and clocks as JSON. */
export function writeStatesSql(table: CollectionTable): string {
  const width = table.key.length;
  return `update ${versionTable(table)} v set crdt = s.crdt, seen = s.seen, applied = false
    from ${wantedKeys(table)} join unnest($${width + 1}::jsonb[], $${width + 2}::jsonb[]) with ordinality s(crdt, seen, place) on s.place = k.place
    where ${match(table, 'v')}`;
}

/** As operations remember their requests: with hlc 0. */
export const rememberSql = `insert into pgquorum.request (collection, key, request, origin, counter, hlc)
  select $1, r.key, r.request, $2, r.counter, 0 from unnest($3::text[], $4::uuid[], $5::bigint[]) r(key, request, counter) order by 2, 3 on conflict do nothing`;

export const listedSql = `select u.collection, u.key from pgquorum.unfolded u where (u.collection, u.key) > ($1, $2) order by u.collection, u.key limit $3`;
export const unlistSql = 'delete from pgquorum.unfolded where collection = $1 and key = any($2::text[])';

/** Who this node is, who else has to be looked at, and whether there is anything to do. */
export const placeSql = `select n.number, exists (select from pgquorum.unfolded) as listed,
    array(select m.number from pgquorum.member m where not m.spare and not m.retired and m.number <> n.number order by m.number) as others
  from pgquorum.node n`;
