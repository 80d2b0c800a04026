/** What the target's catalog says about a collection's table: how to write it in binary, and who else may change what is written. */
import type pg from 'pg';
import { PgquorumError } from '../errors/error.ts';
import type { RowImage, TableImage } from '../changelog/change.ts';
import type { RangePartitioning } from '../placement/partitioning.ts';
import { baseTypeNameSql } from '../collections/type-name.ts';
import { whenMissing } from './missing-column.ts';
import type { TargetColumn, TargetTable } from './target-table.ts';
import { firstOwnOid, withOids, type TypeShape } from './type-shape.ts';

/** How long a definition is believed before it is read again. */
const freshMs = 30_000;

interface TableRow {
  table_schema: string;
  table_name: string;
  key_columns: string[];
  shards: number;
  partitioning: RangePartitioning | null;
  copyable: boolean;
  updated_at: string | null;
  attributes: number;
  columns:
    | {
        name: string;
        type: string;
        oid: string;
        sql_type: string;
        is_array: boolean;
        generated: boolean;
        identity: boolean;
        notNull: boolean;
        defaultSql: string | null;
      }[]
    | null;
}

export class TargetCatalog {
  private readonly client: Pick<pg.Client, 'query'>;
  private readonly tables = new Map<string, { table: TargetTable; at: number }>();

  constructor(client: Pick<pg.Client, 'query'>) {
    this.client = client;
  }

  forget(collection: string): void {
    this.tables.delete(collection);
  }

  /** Throws `schema_drift` when the collection is not on this node. */
  async table(collection: string): Promise<TargetTable> {
    const known = this.tables.get(collection);
    if (known !== undefined && Date.now() - known.at < freshMs) return known.table;
    const table = await this.read(collection);
    this.tables.set(collection, { table, at: Date.now() });
    return table;
  }

  private async read(collection: string): Promise<TargetTable> {
    const rows = await this.client.query<TableRow>(
      `select c.table_schema, c.table_name, c.key_columns, c.shards, c.definition -> 'partitioning' as partitioning, r.relkind in ('r', 'p') and not row_security_active(r.oid) as copyable, r.relnatts as attributes, c.definition -> 'attached' ->> 'updatedAt' as updated_at,
         (select jsonb_agg(jsonb_build_object('name', a.attname, 'type', ${baseTypeNameSql('t')}, 'oid', t.oid::text, 'sql_type', format('%I.%I', n.nspname, t.typname), 'is_array', t.typcategory = 'A', 'generated', a.attgenerated <> '', 'identity', a.attidentity <> '', 'notNull', a.attnotnull,
           'defaultSql', (select pg_get_expr(d.adbin, d.adrelid) from pg_attrdef d where d.adrelid = r.oid and d.adnum = a.attnum)) order by a.attnum)
          from pg_attribute a join pg_type t on t.oid = a.atttypid join pg_namespace n on n.oid = t.typnamespace
          where a.attrelid = r.oid and a.attnum > 0 and not a.attisdropped) as columns
       from pgquorum.collection c left join pg_class r on r.oid = to_regclass(format('%I.%I', c.table_schema, c.table_name)) where c.name = $1`,
      [collection],
    );
    const row = rows.rows[0];
    if (row === undefined || row.columns === null)
      throw new PgquorumError('schema_drift', `collection ${collection} is not on this node`);
    const columns: TargetColumn[] = [];
    for (const column of row.columns) {
      const { name, type, oid, sql_type: sqlType, is_array: isArray, generated } = column;
      columns.push({
        name,
        type,
        typeOid: Number(oid),
        sqlType,
        isArray,
        generated,
        missing: whenMissing(column),
        shape: await this.shapeOf(Number(oid)),
      });
    }
    return {
      collection,
      schema: row.table_schema,
      table: row.table_name,
      shards: row.shards,
      ...(row.partitioning === null ? {} : { partitioning: row.partitioning }),
      updatedAt: row.updated_at,
      key: row.key_columns.map((name) => ({
        name,
        type: columns.find((column) => column.name === name)!.sqlType,
      })),
      columns,
      attributes: row.attributes,
      copyable: row.copyable,
    };
  }

  /** Null where no created type is named: built-in types have the same oids everywhere. */
  private async shapeOf(oid: number): Promise<TypeShape | null> {
    if (oid < firstOwnOid) return null;
    const rows = await this.client.query<{ base: string; element: string | null; fields: string[] | null }>(
      `select t.typbasetype::text as base, case when t.typsubscript = 'array_subscript_handler'::regproc then t.typelem::text end as element,
         (select array_agg(a.atttypid::text order by a.attnum) from pg_attribute a where t.typtype = 'c' and a.attrelid = t.typrelid and a.attnum > 0 and not a.attisdropped) as fields
       from pg_type t where t.oid = $1`,
      [oid],
    );
    const { base, element, fields } = rows.rows[0]!;
    if (base !== '0') return this.shapeOf(Number(base));
    if (element !== null) {
      const elementOid = Number(element);
      // A created domain over an array of a built-in type.
      return elementOid < firstOwnOid
        ? null
        : { kind: 'array', elementOid, element: await this.shapeOf(elementOid) };
    }
    if (fields === null) return null;
    const shapes: { oid: number; shape: TypeShape | null }[] = [];
    for (const field of fields) shapes.push({ oid: Number(field), shape: await this.shapeOf(Number(field)) });
    return shapes.some((field) => field.oid >= firstOwnOid || field.shape !== null)
      ? { kind: 'composite', fields: shapes }
      : null;
  }
}

/** The values of an incoming row, with the target's oids in them. */
export const valuesFor = (columns: readonly TargetColumn[], row: RowImage): (Buffer | null)[] =>
  row.values.map((value, at) => (value === null ? null : withOids(columns[at]!.shape, value)));

/** The target's columns for the columns of an incoming row. Throws `schema_drift` where they differ. */
export function matchColumns(target: TargetTable, image: TableImage): TargetColumn[] {
  return image.columns.map((column) => {
    const found = target.columns.find((one) => one.name === column.name);
    if (found === undefined)
      throw new PgquorumError(
        'schema_drift',
        `table ${target.schema}.${target.table} has no column ${column.name} here`,
      );
    if (found.generated)
      throw new PgquorumError(
        'schema_drift',
        `column ${column.name} of ${target.schema}.${target.table} is generated here and written on its origin`,
      );
    if (found.type !== column.type)
      throw new PgquorumError(
        'schema_drift',
        `column ${column.name} of ${target.schema}.${target.table} is ${found.type} here and ${column.type} on its origin`,
      );
    return found;
  });
}
