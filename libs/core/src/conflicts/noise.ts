/**
 * How a losing write differs from what its key is now, as SQL. A record is noise when the two rows are equal, or their vectors lie within the
 * collection's tolerance of each other. Pure.
 */
import type { CollectionTable } from '../collections/definition.ts';
import { versionTable } from '../collections/trigger.ts';
import { quoteName, quoteTable, quoteText } from '../postgres/identifier.ts';
import { rowTextsSql, type TableColumn } from './row-statements.ts';

export interface NoiseOptions {
  readonly table: CollectionTable;
  readonly columns: readonly TableColumn[];
  readonly cosineTolerance: number | undefined;
}

/** Records c with their key's row t and version v. */
export function currentJoinSql({ table }: NoiseOptions): string {
  const on = (alias: string) =>
    table.key
      .map(({ name, type }, at) => `${alias}.${quoteName(name)} = (c.key_texts ->> ${at})::${type}`)
      .join(' and ');
  return `pgquorum.conflict c left join ${quoteTable({ schema: table.schema, name: table.table })} t on ${on('t')} left join ${versionTable(table)} v on ${on('v')}`;
}

/** True or false; of the aliases that currentJoinSql has. */
export function noiseSql({ table, columns, cosineTolerance }: NoiseOptions): string {
  const absent = `t.${quoteName(table.key[0]!.name)} is null`;
  const close = columns.flatMap(({ name, vector, sparse }) => {
    const type = sparse === true ? 'sparsevec' : vector;
    return cosineTolerance === undefined || type === null
      ? []
      : [vectorsSql({ name, type }, cosineTolerance)];
  });
  // No vector to compare says nothing about the rows: all of them are null then.
  const near = close.length === 0 ? 'false' : `coalesce(least(${close.join(', ')}), false)`;
  return `case when c.loser_deleted or ${absent} then c.loser_deleted and ${absent} else c.loser_row = ${rowTextsSql(columns, 't')} or ${near} end`;
}

/** True when they are near, null when neither row has one. Vectors of other dimensions, from before a change of the column, are far. */
function vectorsSql({ name, type }: { name: string; type: string }, tolerance: number): string {
  const lost = `(c.loser_row ->> ${quoteText(name)})::public.${quoteName(type)}`;
  const now = `t.${quoteName(name)}`;
  // pgvector tells the dimension of a sparse vector in its text alone: `{1:0.5}/3`.
  const dims = (value: string) =>
    type === 'sparsevec' ? `split_part(${value}::text, '/', 2)` : `public.vector_dims(${value})`;
  return `case when ${lost} is null and ${now} is null then null when ${lost} is null or ${now} is null then false
    when ${dims(lost)} <> ${dims(now)} then false else ${lost} operator(public.<=>) ${now} <= ${tolerance}::float8 end`;
}
