/**
 * One key under lock, in a transaction whose writes are local writes: what stands there, and how it is written. Restoring and resolving share it.
 * Locks in the order of users' writes: row, then version. A row that is absent can not be locked, so its insert may wait for a user's who waits for
 * the version locked here: transactions set a `lock_timeout` shorter than `deadlock_timeout`, so that they give way and never the user.
 */
import type pg from 'pg';
import type { CollectionTable } from '../collections/definition.ts';
import { PgquorumError } from '../errors/error.ts';
import type { VersionColumns } from '../versioning/version-view.ts';
import {
  advanceDotSql,
  columnsSql,
  deleteRowSql,
  lockRowSql,
  lockVersionSql,
  touchTombstoneSql,
  updateRowSql,
  writeRowSql,
  type RowTexts,
  type TableColumn,
} from './row-statements.ts';

export type { RowTexts };

export interface LockedVersion extends VersionColumns {
  readonly rank: number;
  readonly epoch: string;
  readonly deleted: boolean;
  readonly request: string | null;
  readonly crdt: unknown;
  readonly shard: number;
}

export class LockedKey {
  readonly client: pg.ClientBase;
  readonly table: CollectionTable;
  readonly columns: readonly TableColumn[];
  readonly #texts: string;
  /** As they were when they were locked; null: there is none. */
  readonly row: RowTexts | null;
  readonly version: LockedVersion | null;

  private constructor(
    locked: Pick<LockedKey, 'client' | 'table' | 'columns' | 'row' | 'version'> & { readonly texts: string },
  ) {
    this.client = locked.client;
    this.table = locked.table;
    this.columns = locked.columns;
    this.row = locked.row;
    this.version = locked.version;
    this.#texts = locked.texts;
  }

  static async lock(
    client: pg.ClientBase,
    table: CollectionTable,
    key: readonly string[],
  ): Promise<LockedKey> {
    const texts = JSON.stringify(key);
    const { rows: columns } = await client.query<TableColumn>(columnsSql, [table.schema, table.table]);
    const rows = await client.query<{ row: RowTexts }>(lockRowSql(table, columns), [texts]);
    const versions = await client.query<LockedVersion>(lockVersionSql(table), [texts]);
    return new LockedKey({
      client,
      table,
      columns,
      texts,
      row: rows.rows[0]?.row ?? null,
      version: versions.rows[0] ?? null,
    });
  }

  /** The key's version now; null when it was never written here. */
  async versionNow(): Promise<LockedVersion | null> {
    return (
      (await this.client.query<LockedVersion>(lockVersionSql(this.table), [this.#texts])).rows[0] ?? null
    );
  }

  /** Writes a whole row, whatever is there; columns that it does not name keep their value or take their default. */
  async put(row: RowTexts): Promise<void> {
    if (this.row !== null) return this.patch(row);
    await this.client.query(writeRowSql(this.table, this.#named(row)), [JSON.stringify(row)]);
  }

  /** Writes the named columns of the row that is there. With none the row is written as it is, which makes a new version all the same. */
  async patch(columns: RowTexts): Promise<void> {
    const text = updateRowSql(this.table, this.#named(columns), this.columns);
    const written = await this.client.query(text, [this.#texts, JSON.stringify(columns)]);
    if (written.rowCount !== 1)
      throw new PgquorumError(
        'conflict_not_resolvable',
        'a trigger of the table keeps the row from being written',
      );
  }

  async remove(): Promise<void> {
    if (this.row !== null) await this.client.query(deleteRowSql(this.table), [this.#texts]);
    else await this.#touchTombstone();
  }

  /** A new version of a key that stays deleted. */
  async #touchTombstone(): Promise<void> {
    await this.client.query(advanceDotSql(this.table), [this.#texts]);
    await this.client.query(touchTombstoneSql(this.table), [this.#texts]);
  }

  #named(row: RowTexts): TableColumn[] {
    const missing = Object.keys(row).find((name) => !this.columns.some((column) => column.name === name));
    if (missing !== undefined)
      throw new PgquorumError('conflict_not_restorable', `the table has no column ${missing} any more`);
    return this.columns.filter((column) => Object.hasOwn(row, column.name));
  }
}
