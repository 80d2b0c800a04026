/** Which row is in the way of one that came: the other side of a unique constraint, so that a dead letter names both. */
import { keyText, type DataChange } from '../changelog/change.ts';
import { keyTextSql } from '../collections/trigger.ts';
import { quoteName, quoteTable } from '../postgres/identifier.ts';
import type { ApplySession } from './session.pg.ts';
import { matchColumns, valuesFor } from './target.pg.ts';

/** The reason with the keys of both rows; as it is where the other one can not be told (it is gone, or an exclusion constraint is in the way). */
export async function namingBoth(
  session: ApplySession,
  change: DataChange,
  failure: { readonly message: string; readonly constraint: string | null },
): Promise<string> {
  if (failure.constraint === null || change.kind !== 'write' || change.row === null) return failure.message;
  const table = await session.catalog.table(change.collection);
  const target = quoteTable({ schema: table.schema, name: table.table });
  const parts = await session.client.query<{ expression: string; predicate: string | null }>(
    `select pg_get_indexdef(i.indexrelid, at, false) as expression, pg_get_expr(i.indpred, i.indrelid) as predicate
     from pg_index i join pg_class c on c.oid = i.indexrelid, generate_series(1, i.indnkeyatts) at where i.indrelid = $1::regclass and c.relname = $2 and i.indisunique order by at`,
    [target, failure.constraint],
  );
  if (parts.rows.length === 0) return failure.message;
  const columns = matchColumns(table, change.row.table);
  const incoming = columns.map((column, at) => `$${at + 1}::${column.sqlType} as ${quoteName(column.name)}`);
  const same = parts.rows.map(({ expression }, at) => `(${expression}) = (select w.e${at} from wanted w)`);
  const predicate = parts.rows[0]!.predicate;
  const found = await session.client.query<{ key: string }>(
    `with incoming as (select ${incoming.join(', ')}), wanted as (select ${parts.rows.map(({ expression }, at) => `(${expression}) as e${at}`).join(', ')} from incoming)
     select ${keyTextSql(table, '')} as key from ${target} where ${[...same, ...(predicate === null ? [] : [predicate])].join(' and ')} limit 1`,
    valuesFor(columns, change.row),
  );
  const standing = found.rows[0]?.key;
  return standing === undefined
    ? failure.message
    : `${failure.message}: the row with key ${JSON.stringify(standing)} is here already, and that with key ${JSON.stringify(keyText(change.key))} came`;
}
