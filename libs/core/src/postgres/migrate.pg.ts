/**
 * Brings one database to the newest schema. Any number of starters may run it at once: an advisory lock lets one do the work and the others
 * find it done. One transaction: a failing migration leaves nothing.
 */
import { readFile, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import type { ClientBase } from 'pg';
import { projectRoot } from '../config/project-root.files.ts';
import { PgquorumError } from '../errors/error.ts';
import { pendingMigrations, readMigration, type AppliedMigration, type Migration } from './migrations.ts';
import { transaction } from './transaction.pg.ts';

/** 64-bit key of the migrator's advisory lock: "pgqmigr" read as a number. */
const migrationLock = '31638934256183154';

export async function loadMigrations(folder = join(projectRoot, 'migrations')): Promise<Migration[]> {
  const files = (await readdir(folder)).filter((file) => file.endsWith('.sql')).sort();
  return Promise.all(
    files.map(async (file) => readMigration(file, await readFile(join(folder, file), 'utf8'))),
  );
}

/** Returns the numbers that were applied now. */
export async function migrate(client: ClientBase, known?: readonly Migration[]): Promise<number[]> {
  const migrations = known ?? (await loadMigrations());
  return transaction(client, async () => {
    await client.query(`select pg_advisory_xact_lock(${migrationLock})`);
    const applied = await appliedMigrations(client);
    const pending = pendingMigrations(migrations, applied);
    for (const migration of pending) await runOne(client, migration);
    return pending.map((migration) => migration.number);
  });
}

async function appliedMigrations(client: ClientBase): Promise<AppliedMigration[]> {
  // Not by to_regclass: a session that has looked for the schema before, in vain, may remember that, though it was made while this one waited for the lock.
  const found = await client.query<{ there: boolean }>(
    `select exists (select from pg_class c join pg_namespace n on n.oid = c.relnamespace where n.nspname = 'pgquorum' and c.relname = 'migration') as there`,
  );
  if (!found.rows[0]!.there) {
    await client.query('create schema if not exists pgquorum');
    await client.query(
      'create table pgquorum.migration (number integer not null, name text not null, checksum text not null, applied_at timestamptz not null default clock_timestamp(), constraint migration_pkey primary key (number))',
    );
    await client.query(`comment on table pgquorum.migration is 'Migrations applied to this database.'`);
    return [];
  }
  const rows = await client.query<AppliedMigration>(
    'select number, checksum from pgquorum.migration order by number',
  );
  return rows.rows;
}

async function runOne(client: ClientBase, migration: Migration): Promise<void> {
  try {
    await client.query(migration.sql);
    await client.query('insert into pgquorum.migration (number, name, checksum) values ($1, $2, $3)', [
      migration.number,
      migration.name,
      migration.checksum,
    ]);
  } catch (cause) {
    throw new PgquorumError(
      'migration_failed',
      `migration ${migration.number} (${migration.name}): ${(cause as Error).message}`,
      { cause },
    );
  }
}
