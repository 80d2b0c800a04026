/** What the origin's catalog says about published relations: which is what to replication, and how rows are read by SQL in binary form. */
import type pg from 'pg';
import type { TableImage } from '../changelog/change.ts';
import { baseTypeNameSql } from '../collections/type-name.ts';
import { quoteName } from '../postgres/identifier.ts';
import type { RelationRole } from './join.ts';
import type { Relation } from './pgoutput.ts';

export interface ReadColumn {
  readonly name: string;
  readonly type: string;
  /** The type's binary output function, schema-qualified. */
  readonly send: string;
}

export interface PublishedCollection {
  readonly collection: string;
  readonly schema: string;
  readonly table: string;
  readonly keyColumns: readonly string[];
  readonly keyTypes: readonly string[];
  readonly columns: readonly ReadColumn[];
  readonly image: TableImage;
  /** Oids of the table and of its version table: a table of the same name that was dropped has others. */
  readonly tableOid: number;
  readonly versionsOid: number;
}

export class OriginCatalog {
  private readonly client: Pick<pg.ClientBase, 'query'>;
  private collections = new Map<string, PublishedCollection>();
  private types: Map<number, string> | null = null;

  constructor(client: Pick<pg.ClientBase, 'query'>) {
    this.client = client;
  }

  /** Must be called when a relation message came: its table may be new or may have changed. */
  async reload(): Promise<void> {
    const rows = await this.client.query<{
      name: string;
      table_schema: string;
      table_name: string;
      key_columns: string[];
      columns: { name: string; type: string; send: string; full: string }[] | null;
      table_oid: string;
      versions_oid: string;
    }>(
      `select c.name, c.table_schema, c.table_name, c.key_columns,
         to_regclass(format('%I.%I', c.table_schema, c.table_name))::oid::text as table_oid, to_regclass(format('pgquorum.%I', 'version_' || c.name))::oid::text as versions_oid,
         (select jsonb_agg(jsonb_build_object('name', a.attname, 'type', ${baseTypeNameSql('t')}, 'send', t.typsend::regproc::text, 'full', format_type(a.atttypid, a.atttypmod)) order by a.attnum)
          from pg_attribute a join pg_type t on t.oid = a.atttypid
          where a.attrelid = to_regclass(format('%I.%I', c.table_schema, c.table_name)) and a.attnum > 0 and not a.attisdropped and a.attgenerated = '') as columns
       from pgquorum.collection c`,
    );
    this.collections = new Map(
      rows.rows
        .filter((row) => row.columns !== null)
        .map((row) => {
          const columns = row.columns!;
          const image: TableImage = {
            collection: row.name,
            columns: columns.map((column) => ({
              name: column.name,
              type: column.type,
              isKey: row.key_columns.includes(column.name),
            })),
          };
          const keyTypes = row.key_columns.map(
            (key) => columns.find((column) => column.name === key)?.full ?? 'text',
          );
          return [
            row.name,
            {
              collection: row.name,
              schema: row.table_schema,
              table: row.table_name,
              keyColumns: row.key_columns,
              keyTypes,
              columns,
              image,
              tableOid: Number(row.table_oid),
              versionsOid: Number(row.versions_oid),
            },
          ];
        }),
    );
  }

  find(collection: string): PublishedCollection | undefined {
    return this.collections.get(collection);
  }

  private async typeNames(): Promise<Map<number, string>> {
    if (this.types === null) {
      const rows = await this.client.query<{ oid: string; name: string }>(
        'select oid::text as oid, typname as name from pg_type where oid < 16384',
      );
      this.types = new Map(rows.rows.map((row) => [Number(row.oid), row.name]));
    }
    return this.types;
  }

  async roleOf(relation: Relation, announced: ReadonlyMap<number, string>): Promise<RelationRole> {
    if (relation.schema === 'pgquorum' && relation.name === 'heartbeat') return { kind: 'heartbeat' };
    const builtin = await this.typeNames();
    const columns = relation.columns.map((column) => ({
      name: column.name,
      type: announced.get(column.typeOid) ?? builtin.get(column.typeOid) ?? `oid ${column.typeOid}`,
      isKey: column.isKey,
    }));
    const at = Object.fromEntries(columns.map((column, index) => [column.name, index]));
    if (relation.schema === 'pgquorum' && relation.name === 'conflict')
      return { kind: 'conflicts', table: { collection: '', columns }, at };
    const versions = relation.schema === 'pgquorum' && relation.name.startsWith('version_');
    const found = versions
      ? this.collections.get(relation.name.slice('version_'.length))
      : [...this.collections.values()].find(
          (one) => one.schema === relation.schema && one.table === relation.name,
        );
    // Not (or not any more) a collection: changes of a dropped table must not reach its successor of the same name.
    if (found === undefined || relation.id !== (versions ? found.versionsOid : found.tableOid))
      return { kind: 'other' };
    const keyAt = found.keyColumns.map((name) => at[name]!);
    const table: TableImage = { collection: found.collection, columns };
    return versions
      ? { kind: 'versions', collection: found.collection, table, keyAt, at }
      : { kind: 'rows', table, keyAt };
  }
}

/** Select list that gives every column of a row in its binary form, as base64. */
export const binaryColumnsSql = (columns: readonly ReadColumn[], alias: string): string =>
  columns.map((column) => `encode(${column.send}(${alias}.${quoteName(column.name)}), 'base64')`).join(', ');
