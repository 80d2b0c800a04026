/**
 * Data folders to copy: one per major and place in the cluster, made once per machine and kept in the user's cache. A copy costs some tens of
 * milliseconds where initdb, the role, the database and the extension cost a second. Each place has a template of its own, so that the
 * masters of a test have different system identifiers, as real ones do.
 */
import { createHash, randomBytes } from 'node:crypto';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import {
  firstClosedFolder,
  giveTo,
  makePassage,
  serverAccount,
  type ServerAccount,
} from '../embedded/account.os.ts';
import { prepareDatabase, runtimeDatabase, serverUrl } from '../embedded/database.pg.ts';
import { findPostgres, machineCacheDir } from '../embedded/find-postgres.os.ts';
import type { Installation } from '../embedded/installation.os.ts';
import { waitForLock } from '../embedded/lock.os.ts';
import { freePorts } from '../embedded/ports.os.ts';
import { run } from '../embedded/process.os.ts';
import { testServerSettings } from '../embedded/server-settings.ts';
import { PostgresServer } from '../embedded/server.os.ts';

export type TestMajor = 16 | 18;

export interface Template {
  readonly installation: Installation;
  readonly account: ServerAccount | undefined;
  readonly dataDir: string;
  readonly superPassword: string;
  readonly rolePassword: string;
}

/** Raise it when what a template holds changes: old ones are then left alone and unused. */
const templateFormat = 1;

const installations = new Map<TestMajor, Promise<Installation>>();

export function testInstallation(major: TestMajor): Promise<Installation> {
  let found = installations.get(major);
  if (found === undefined) {
    const say = (line: string) => process.stderr.write(`${line}\n`);
    found = findPostgres({
      pgBin: undefined,
      major,
      cacheDirs: [machineCacheDir()],
      image: `pgvector/pgvector:pg${major}`,
      account: serverAccount(),
      say,
    });
    installations.set(major, found);
  }
  return found;
}

/** The template for the master at this place (0 for the first) of a test's cluster. */
export async function templateFor(major: TestMajor, place: number): Promise<Template> {
  const account = serverAccount();
  const cache = machineCacheDir();
  makeCache(cache, account);
  const installation = await testInstallation(major);
  const key = createHash('sha256')
    .update(JSON.stringify([templateFormat, installation.source, installation.version, account?.uid]))
    .digest('hex');
  const folder = join(cache, `template-pg${installation.version}-${key.slice(0, 8)}-${place}`);
  if (!existsSync(folder)) {
    const lock = await waitForLock(`${folder}.lock`, 120_000);
    try {
      if (!existsSync(folder)) await build(folder, cache, installation, account);
    } finally {
      lock.release();
    }
  }
  const secrets = JSON.parse(readFileSync(join(folder, 'secrets.json'), 'utf8')) as {
    superPassword: string;
    rolePassword: string;
  };
  return { installation, account, dataDir: join(folder, 'data'), ...secrets };
}

function makeCache(cache: string, account: ServerAccount | undefined): void {
  mkdirSync(cache, { recursive: true, mode: 0o755 });
  const closed = firstClosedFolder(cache, account);
  if (closed !== undefined)
    throw new Error(
      `the account ${account?.name} that runs Postgres cannot enter ${closed}: set XDG_CACHE_HOME to a folder open to it`,
    );
}

async function build(
  folder: string,
  cache: string,
  installation: Installation,
  account: ServerAccount | undefined,
): Promise<void> {
  const work = mkdtempSync(join(cache, 'building-'));
  try {
    makePassage(work, account);
    giveTo(work, account);
    const secrets = {
      superPassword: randomBytes(16).toString('hex'),
      rolePassword: randomBytes(16).toString('hex'),
    };
    const server = new PostgresServer({
      installation,
      account,
      dataDir: join(work, 'data'),
      logFile: join(work, 'log'),
      settings: testServerSettings,
    });
    await server.init(secrets.superPassword);
    const [port] = await freePorts(1);
    await server.start(port!);
    try {
      const superUrl = serverUrl({
        role: 'postgres',
        password: secrets.superPassword,
        port: port!,
        database: 'postgres',
      });
      await prepareDatabase({
        superUrl,
        rolePassword: secrets.rolePassword,
        database: runtimeDatabase,
        originPrivileges: false,
      });
    } finally {
      await server.stop('fast');
    }
    writeFileSync(join(work, 'secrets.json'), JSON.stringify(secrets), { mode: 0o600 });
    renameSync(work, folder);
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
}

/** Copies a template; on file systems that can, without copying a byte. */
export async function copyTemplate(template: Template, to: string): Promise<void> {
  const flags = process.platform === 'linux' ? ['-a', '--reflink=auto'] : ['-Rp'];
  const answer = await run('cp', [...flags, template.dataDir, to]);
  if (answer.code !== 0) throw new Error(`copying a template of Postgres: ${answer.stderr.trim()}`);
}
