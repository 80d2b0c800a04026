import { chmodSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { serverAccount } from '#core/embedded/account.os.ts';
import { findPostgres, machineCacheDir } from '#core/embedded/find-postgres.os.ts';
import { serverEnvironment } from '#core/embedded/installation.os.ts';
import { EmbeddedMaster } from '#core/embedded/master.pg.ts';
import { run } from '#core/embedded/process.os.ts';
import { testServerSettings } from '#core/embedded/server-settings.ts';
import { PgquorumError } from '#core/errors/error.ts';
import { connect } from '#core/postgres/connect.pg.ts';
import { migrate } from '#core/postgres/migrate.pg.ts';
import { refuseArguments, type Command } from '../command.ts';
import { readSettings } from '../settings.ts';

/** One major only: each major's pg_dump writes the same schema differently. */
const major = 18;

export const dumpSchema: Command = {
  name: 'dump-schema',
  about:
    'prints the migrated schema pgquorum as SQL, from a master made for this alone (test/schema.sql is this text)',
  usage: '',
  async run(args) {
    const refused = refuseArguments('dump-schema', args);
    if (refused !== undefined) return refused;
    process.stdout.write(await dumpMigratedSchema());
    return 0;
  },
};

export async function dumpMigratedSchema(): Promise<string> {
  const { pgBin, pgImage } = readSettings();
  const account = serverAccount();
  const say = (line: string) => process.stderr.write(`${line}\n`);
  const installation = await findPostgres({
    pgBin,
    major,
    image: pgImage,
    cacheDirs: [machineCacheDir()],
    account,
    say,
  });
  if (installation.major !== major)
    throw new PgquorumError(
      'postgres_missing',
      `the dump is made with Postgres ${major}, and ${installation.source} is ${installation.major}`,
    );
  const folder = mkdtempSync(join(tmpdir(), 'pgquorum-dump-'));
  chmodSync(folder, 0o711);
  const master = new EmbeddedMaster({
    name: 'n1',
    zone: 'z1',
    nodesFolder: folder,
    logFile: join(folder, 'log'),
    installation,
    account,
    settings: testServerSettings,
  });
  try {
    await master.start();
    const client = await connect({ name: 'n1', url: master.url }, { application: 'pgquorum dump' });
    try {
      await migrate(client);
    } finally {
      await client.end();
    }
    const flags = [
      '--schema-only',
      '--schema=pgquorum',
      '--no-owner',
      '--no-privileges',
      '--restrict-key=pgquorum',
      `--dbname=${master.superUrl}`,
    ];
    const command = installation.command('pg_dump', flags, { account });
    const answer = await run(command.file, command.args, { env: serverEnvironment() });
    if (answer.code !== 0) throw new PgquorumError('embedded_failed', `pg_dump: ${answer.stderr.trim()}`);
    return withoutVersions(answer.stdout);
  } finally {
    await master.stop('immediate');
    rmSync(folder, { recursive: true, force: true });
  }
}

/** Minor versions come and go without the schema changing. */
function withoutVersions(dump: string): string {
  const kept = dump.split('\n').filter((line) => !/^-- Dumped (from|by) /.test(line));
  return `${kept
    .join('\n')
    .replaceAll(/\n{3,}/g, '\n\n')
    .trim()}\n`;
}
