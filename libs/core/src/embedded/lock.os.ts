/**
 * A lock file that names its holder by pid and start time, so that a lock outlives neither a crash nor the reuse of a pid. The lock is taken by
 * linking a file that is complete already: nobody ever reads half a lock.
 */
import { linkSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { randomUUID } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import { identify, isRunning, type ProcessIdentity } from './process.os.ts';

export interface HeldLock {
  release(): void;
}

/** The lock, or who holds it. */
export function tryLock(path: string): HeldLock | ProcessIdentity {
  const me = identify(process.pid);
  if (me === undefined) throw new Error('this process cannot see itself');
  const mine = `${path}.${randomUUID()}`;
  writeFileSync(mine, JSON.stringify(me), { mode: 0o600 });
  try {
    for (;;) {
      try {
        linkSync(mine, path);
        return { release: () => releaseOwn(path, me) };
      } catch (cause) {
        if ((cause as NodeJS.ErrnoException).code !== 'EEXIST') throw cause;
      }
      const holder = readHolder(path);
      if (holder !== undefined && isRunning(holder)) return holder;
      removeStale(path, holder);
    }
  } finally {
    rmSync(mine, { force: true });
  }
}

export const isHeld = (answer: HeldLock | ProcessIdentity): answer is HeldLock => 'release' in answer;

/** Waits for the lock; throws after `timeoutMs`. */
export async function waitForLock(path: string, timeoutMs: number): Promise<HeldLock> {
  const deadline = performance.now() + timeoutMs;
  for (;;) {
    const answer = tryLock(path);
    if (isHeld(answer)) return answer;
    if (performance.now() >= deadline)
      throw new Error(`process ${answer.pid} holds ${path} for longer than ${timeoutMs} ms`);
    await delay(20);
  }
}

/** Who is named in a lock file; undefined when there is none, or it is unreadable. */
export function readHolder(path: string): ProcessIdentity | undefined {
  try {
    const { pid, startedAt } = JSON.parse(readFileSync(path, 'utf8')) as ProcessIdentity;
    return { pid, startedAt };
  } catch {
    return undefined; // gone, or damaged: a lock that names nobody is stale
  }
}

/** Moves the stale lock aside first: if another starter replaced it meanwhile, what was moved is live and goes back. */
function removeStale(path: string, seen: ProcessIdentity | undefined): void {
  const aside = `${path}.stale.${randomUUID()}`;
  try {
    renameSync(path, aside);
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === 'ENOENT') return;
    throw cause;
  }
  const moved = readHolder(aside);
  if (moved !== undefined && moved.pid !== seen?.pid && isRunning(moved)) {
    try {
      linkSync(aside, path);
    } catch (cause) {
      if ((cause as NodeJS.ErrnoException).code !== 'EEXIST') throw cause;
    }
  }
  rmSync(aside, { force: true });
}

function releaseOwn(path: string, me: ProcessIdentity): void {
  const holder = readHolder(path);
  if (holder?.pid === me.pid && holder.startedAt === me.startedAt) rmSync(path, { force: true });
}
