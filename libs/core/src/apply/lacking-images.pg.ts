/**
 * Rows that come from an origin whose table lacks a column of the one here. The column gets its default, as it would on the origin; but what stands in it
 * is not wiped out by a write that had seen the row and could not say anything of the column: nobody meant that, and no record would keep it.
 */
import type { TableImage } from '../changelog/change.ts';
import { PgquorumError } from '../errors/error.ts';
import { sameDot } from '../versioning/version.ts';
import type { CollectionStatements } from './collection-statements.pg.ts';
import type { Planned } from './key-work.ts';
import { checkMissing, missingColumns } from './missing-column.ts';
import { holdingSql } from './statements.ts';
import { matchColumns } from './target.pg.ts';
import type { TargetColumn } from './target-table.ts';

export class LackingImages {
  readonly #statements: CollectionStatements;
  readonly #known = new Map<TableImage, readonly TargetColumn[]>();

  constructor(statements: CollectionStatements) {
    this.#statements = statements;
  }

  /** Throws `schema_drift` when rows of this table can not be written here. */
  note(image: TableImage): void {
    if (this.#known.has(image)) return;
    const { table } = this.#statements;
    const columns = matchColumns(table, image);
    checkMissing(table, columns);
    this.#known.set(image, missingColumns(table, columns));
  }

  /** Under the locks of the rows. A row that loses in a conflict is kept in its record, so it may be written over. */
  async check(winners: readonly Planned[]): Promise<void> {
    if ([...this.#known.values()].every((missing) => missing.length === 0)) return;
    const keys = new Map<readonly TargetColumn[], (readonly string[])[]>();
    for (const { work, local, plan } of winners) {
      const { row, version } = plan.winner!;
      if (local === undefined || local.version.deleted || version.deleted || row.kind !== 'incoming')
        continue;
      if (plan.newLosers.some(({ loser }) => sameDot(loser.version.dot, local.version.dot))) continue;
      const missing = this.#known.get(work.writes[row.at]!.row!.table)!;
      if (missing.length === 0) continue;
      keys.set(missing, [...(keys.get(missing) ?? []), work.key]);
    }
    for (const [missing, some] of keys) await this.#checkKeys(missing, some);
  }

  async #checkKeys(missing: readonly TargetColumn[], keys: readonly (readonly string[])[]): Promise<void> {
    const { session, table } = this.#statements;
    const { rowCount } = await session.client.query(
      holdingSql(table, missing),
      this.#statements.keyArrays(keys),
    );
    if ((rowCount ?? 0) > 0)
      throw new PgquorumError(
        'schema_drift',
        `rows of its origin have no column ${missing.map(({ name }) => name).join(', ')} of ${table.schema}.${table.table}, which holds values here`,
      );
  }
}
