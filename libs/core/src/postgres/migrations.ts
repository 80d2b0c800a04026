/** What the migrator makes of the files in migrations/. Pure. */
import { createHash } from 'node:crypto';
import { PgquorumError } from '../errors/error.ts';

export interface Migration {
  readonly number: number;
  readonly name: string;
  readonly sql: string;
  readonly checksum: string;
}

const fileName = /^(\d{6})_([a-z0-9_]+)\.sql$/;

export function readMigration(file: string, sql: string): Migration {
  const match = fileName.exec(file);
  if (match === null) throw new PgquorumError('migration_failed', `${file} is not named NNNNNN_what.sql`);
  return {
    number: Number(match[1]),
    name: match[2]!,
    sql,
    checksum: createHash('sha256').update(sql).digest('hex'),
  };
}

export interface AppliedMigration {
  readonly number: number;
  readonly checksum: string;
}

/** The migrations still to run, in order. Refuses a database that is newer than this program, and edited or missing files. */
export function pendingMigrations(
  known: readonly Migration[],
  applied: readonly AppliedMigration[],
): Migration[] {
  const sorted = known.toSorted((a, b) => a.number - b.number);
  sorted.forEach((migration, at) => {
    if (migration.number !== at + 1)
      throw new PgquorumError('migration_failed', `migration ${at + 1} is missing from this program`);
  });
  const newest = sorted.length;
  for (const one of applied) {
    if (one.number > newest)
      throw new PgquorumError(
        'schema_newer',
        `the database has migration ${one.number}, this program knows ${newest}`,
      );
    if (sorted[one.number - 1]!.checksum !== one.checksum)
      throw new PgquorumError(
        'migration_failed',
        `migration ${one.number} was applied with another text than this program has`,
      );
  }
  return sorted.slice(applied.length);
}
