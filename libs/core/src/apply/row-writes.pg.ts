/** Writes the rows of a batch, and finds out where a user's trigger changed them. */
import type { RowImage } from '../changelog/change.ts';
import { PgquorumError } from '../errors/error.ts';
import { arrayOf, type ColumnArray } from '../postgres/binary-array.ts';
import { binaryRows } from './copy-format.ts';
import { shortHash, type CollectionStatements } from './collection-statements.pg.ts';
import { missingColumns } from './missing-column.ts';
import * as sql from './statements.ts';
import { matchColumns, valuesFor } from './target.pg.ts';
import type { TargetColumn } from './target-table.ts';

/** Postgres counts parameters in 16 bits. */
const parametersMax = 60_000;

export class RowWrites {
  private readonly statements: CollectionStatements;
  /** Could someone else's trigger change what is written? */
  private readonly userTriggers: boolean;

  constructor(statements: CollectionStatements, userTriggers: boolean) {
    this.statements = statements;
    this.userTriggers = userTriggers;
  }

  async remove(keys: readonly (readonly string[])[]): Promise<void> {
    const { table } = this.statements;
    const arrays = this.statements.keyArrays(keys);
    const deleted = await this.statements.run('delr', sql.deleteRowsSql(table), arrays);
    if (deleted.rowCount === keys.length) return;
    // Fewer is right where a cascade was first, and wrong where somebody's trigger kept them.
    const left = await this.statements.run('lockd', sql.lockRowsSql(table), arrays);
    if (left.rows.length > 0)
      throw new PgquorumError(
        'schema_drift',
        `a trigger on ${table.schema}.${table.table} keeps rows from being deleted while they are replicated`,
      );
  }

  /** Sends rows of keys that have none here, in key order; what is answered is in `sent`. */
  copyAll(images: readonly RowImage[], sent: Promise<unknown>[]): void {
    const { session, table } = this.statements;
    for (const [image, rows] of Map.groupBy(images, (row) => row.table)) {
      const columns = matchColumns(table, image);
      sent.push(
        session.copy(sql.copyRowsSql(table, columns), binaryRows(rows.map((row) => valuesFor(columns, row)))),
      );
    }
  }

  /** Sends the statements; what they answer is in `sent`. */
  upsertAll(images: readonly RowImage[], sent: Promise<unknown>[]): void {
    for (const [image, rows] of Map.groupBy(images, (row) => row.table))
      this.upsert(matchColumns(this.statements.table, image), rows, sent);
  }

  private upsert(
    columns: readonly TargetColumn[],
    rows: readonly RowImage[],
    sent: Promise<unknown>[],
  ): void {
    const { session, table } = this.statements;
    const signature = [...columns, null, ...missingColumns(table, columns)]
      .map((column) => column?.name ?? '')
      .join(' ');
    const given = rows.map((row) => valuesFor(columns, row));
    if (!columns.some((column) => column.isArray)) {
      const arrays = columns.map((column, at): ColumnArray => ({
        elementOid: column.typeOid,
        values: given.map((values) => values[at]!),
      }));
      sent.push(
        session.runBulk(
          this.statements.named(`upsr ${signature.length} ${shortHash(signature)}`),
          sql.upsertRowsSql(table, columns),
          arrays,
        ),
      );
      if (this.userTriggers)
        sent.push(
          this.compare(
            sql.compareRowsSql(table, columns),
            arrays.map(({ elementOid, values }) => arrayOf(elementOid, values)),
          ),
        );
      return;
    }
    const perStatement = Math.max(1, Math.floor(parametersMax / columns.length));
    for (let at = 0; at < rows.length; at += perStatement) {
      const some = given.slice(at, at + perStatement);
      const values = some.flat();
      sent.push(session.client.query(sql.upsertValuesSql(table, columns, some.length), values));
      if (this.userTriggers)
        sent.push(this.compare(sql.compareValuesSql(table, columns, some.length), values));
    }
  }

  /** A user's trigger may have changed what was written: masters would differ under one version. */
  private async compare(text: string, values: readonly (Buffer | null)[]): Promise<void> {
    const { session, table } = this.statements;
    const differing = await session.client.query(text, [...values]);
    if (differing.rows.length > 0)
      throw new PgquorumError(
        'schema_drift',
        `a trigger on ${table.schema}.${table.table} changes rows while they are replicated`,
      );
  }
}
