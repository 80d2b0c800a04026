/**
 * The account that Postgres runs under. Postgres refuses to run as root, so root hands its servers to a harmless account; everybody else
 * runs them as themselves. Such an account must be able to reach the data folder and the programs: root's home, for one, is closed to it.
 */
import { execFileSync } from 'node:child_process';
import { chownSync, lstatSync, mkdirSync, readdirSync, realpathSync, statSync } from 'node:fs';
import { dirname, join } from 'node:path';
import type { ProcessAccount } from './process.os.ts';

export interface ServerAccount extends ProcessAccount {
  readonly name: string;
}

/** In this order: `postgres` when the machine has it, else `nobody`. */
const candidates = ['postgres', 'nobody'];

/** The account for servers whose files are under `existingDataDir` (its owner, once there is one); undefined = our own account. */
export function serverAccount(existingDataDir?: string): ServerAccount | undefined {
  if (process.getuid?.() !== 0) return undefined;
  const owner = existingDataDir === undefined ? undefined : ownerOf(existingDataDir);
  if (owner !== undefined && owner.uid !== 0) return owner;
  for (const name of candidates) {
    try {
      const id = (flag: string) =>
        Number(execFileSync('id', [flag, name], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] }));
      return { name, uid: id('-u'), gid: id('-g') };
    } catch {
      continue; // the machine has no such account
    }
  }
  return { name: '65534', uid: 65534, gid: 65534 };
}

function ownerOf(path: string): ServerAccount | undefined {
  try {
    const { uid, gid } = statSync(path);
    return { name: String(uid), uid, gid };
  } catch {
    return undefined;
  }
}

/** The first folder on the way to `path` that the account may not pass; undefined when the way is free. */
export function firstClosedFolder(path: string, account: ServerAccount | undefined): string | undefined {
  if (account === undefined) return undefined;
  const folders: string[] = [];
  for (let folder = nearestExisting(path); ; folder = dirname(folder)) {
    folders.unshift(folder);
    if (folder === dirname(folder)) break;
  }
  return folders.find((folder) => !mayEnter(folder, account));
}

function nearestExisting(path: string): string {
  try {
    return realpathSync(path);
  } catch {
    return nearestExisting(dirname(path));
  }
}

function mayEnter(folder: string, account: ServerAccount): boolean {
  const { mode, uid, gid } = statSync(folder);
  if (uid === account.uid) return (mode & 0o100) !== 0;
  if (gid === account.gid) return (mode & 0o010) !== 0;
  return (mode & 0o001) !== 0;
}

/** Makes a folder that the account can pass through but others cannot list. */
export function makePassage(folder: string, account: ServerAccount | undefined): void {
  mkdirSync(folder, { recursive: true, mode: account === undefined ? 0o700 : 0o711 });
}

/** Gives a whole tree to the account. */
export function giveTo(path: string, account: ServerAccount | undefined): void {
  if (account === undefined) return;
  chownSync(path, account.uid, account.gid);
  if (!lstatSync(path).isDirectory()) return;
  for (const name of readdirSync(path)) {
    const inside = join(path, name);
    if (lstatSync(inside).isSymbolicLink()) continue; // never follow a link out of the tree
    giveTo(inside, account);
  }
}
