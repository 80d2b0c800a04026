/**
 * The data folder of an embedded cluster: `.pgquorum/` with the lock, cluster.json, logs and children.json, and in it (or elsewhere, see
 * `serverFolder`) the masters and the cached Postgres. One running cluster per data folder.
 */
import { randomUUID } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, readdirSync, statSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { PgquorumError } from '../errors/error.ts';
import { firstClosedFolder, makePassage, type ServerAccount } from './account.os.ts';

/** Where root's servers live when the way to the data folder is closed to their account, as it is below root's home. */
const systemFolder = '/var/lib/pgquorum';

export interface DataFolder {
  /** Absolute. */
  readonly root: string;
  /** Masters and the cached Postgres are here: `root` itself, unless the account of the servers cannot get there. */
  readonly serverFolder: string;
  readonly logs: string;
  readonly lockFile: string;
  readonly clusterFile: string;
  readonly childrenFile: string;
}

export function dataFolderPaths(path: string): Omit<DataFolder, 'serverFolder'> {
  const root = resolve(path);
  return {
    root,
    logs: join(root, 'logs'),
    lockFile: join(root, 'lock'),
    clusterFile: join(root, 'cluster.json'),
    childrenFile: join(root, 'children.json'),
  };
}

/** Makes what is missing of the folder. `say` hears when the servers have to live elsewhere. */
export function openDataFolder(
  path: string,
  account: ServerAccount | undefined,
  say: (line: string) => void,
): DataFolder {
  const paths = dataFolderPaths(path);
  try {
    makePassage(paths.root, account);
    mkdirSync(paths.logs, { recursive: true, mode: 0o700 });
  } catch (cause) {
    throw new PgquorumError(
      'embedded_failed',
      `the data folder ${paths.root} cannot be written: ${(cause as Error).message}`,
      { cause },
    );
  }
  const me = process.getuid?.();
  const owner = statSync(paths.root).uid;
  if (me !== undefined && me !== 0 && owner !== me) {
    throw new PgquorumError(
      'embedded_failed',
      `the data folder ${paths.root} belongs to another account (uid ${owner}): start as that one, or set PGQUORUM_DATA_DIR`,
    );
  }
  return { ...paths, serverFolder: serverFolder(paths.root, account, say) };
}

/**
 * The choice is remembered in the data folder under a random id, so that a data folder that was deleted and begun anew does not find the
 * masters of its predecessor. Those are never removed from here (the data folder may only have been moved), but named.
 */
function serverFolder(root: string, account: ServerAccount | undefined, say: (line: string) => void): string {
  const memory = join(root, 'elsewhere.json');
  if (existsSync(memory))
    return (JSON.parse(readFileSync(memory, 'utf8')) as { serverFolder: string }).serverFolder;
  const closed = firstClosedFolder(root, account);
  if (closed === undefined || existsSync(join(root, 'nodes'))) return root;
  const earlier = foldersOf(root);
  const elsewhere = join(systemFolder, randomUUID().slice(0, 13));
  mkdirSync(elsewhere, { recursive: true, mode: 0o755 });
  if (firstClosedFolder(elsewhere, account) !== undefined) {
    throw new PgquorumError(
      'embedded_failed',
      `the account ${account?.name} that runs Postgres cannot enter ${closed}: set PGQUORUM_DATA_DIR to a folder that is open to it`,
    );
  }
  writeFileSync(join(elsewhere, ownerFile), root);
  writeFileSync(memory, JSON.stringify({ serverFolder: elsewhere }), { mode: 0o600 });
  say(
    `Postgres does not run as root, and the account ${account?.name} cannot enter ${closed}: the masters live in ${elsewhere}`,
  );
  for (const folder of earlier)
    say(`${folder} holds the masters of an earlier ${root}: remove it if they are not needed any more`);
  return elsewhere;
}

const ownerFile = 'data-folder';

function foldersOf(root: string): string[] {
  if (!existsSync(systemFolder)) return [];
  const folders = readdirSync(systemFolder).map((name) => join(systemFolder, name));
  return folders.filter(
    (folder) => existsSync(join(folder, ownerFile)) && readFileSync(join(folder, ownerFile), 'utf8') === root,
  );
}
