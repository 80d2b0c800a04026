/** What stands in a column here for rows whose origin lacks it. Pure. */
import { PgquorumError } from '../errors/error.ts';
import type { Missing, TargetColumn, TargetTable } from './target-table.ts';

/** Literals with casts, as pg_get_expr shows them: the same value for everybody at any time. */
const constant = /^\(?(?:-?\d[\d.]*|true|false|null|e?'(?:[^']|'')*'|array\[\])\)?(?:::[\w ."()[\],]+)*$/i;

export interface ColumnFacts {
  readonly identity: boolean;
  readonly notNull: boolean;
  /** Null without a default. */
  readonly defaultSql: string | null;
}

export function whenMissing({ identity, notNull, defaultSql }: ColumnFacts): Missing {
  if (identity) return { kind: 'drift', why: 'which is an identity here' };
  if (defaultSql !== null)
    return constant.test(defaultSql)
      ? { kind: 'fill', sql: defaultSql }
      : { kind: 'drift', why: 'whose default here is another one on each master' };
  return notNull ? { kind: 'drift', why: 'which may not be null here' } : { kind: 'fill', sql: 'null' };
}

/** The columns that rows of these columns say nothing of. Those that are computed here are none of them. */
export const missingColumns = (table: TargetTable, given: readonly TargetColumn[]): TargetColumn[] =>
  table.columns.filter((column) => !column.generated && !given.some((one) => one.name === column.name));

/** Throws `schema_drift` where a row of these columns can not be completed. */
export function checkMissing(table: TargetTable, given: readonly TargetColumn[]): void {
  for (const { name, missing } of missingColumns(table, given))
    if (missing.kind === 'drift')
      throw new PgquorumError(
        'schema_drift',
        `rows of its origin have no column ${name} of ${table.schema}.${table.table}, ${missing.why}`,
      );
}
