/**
 * Points at which a test lets a process die, each right behind or before a step that makes something durable: what the next start finds there has to be
 * enough. Nothing is armed unless `arm.process.ts` was told to; until then a point costs one comparison.
 */
import { writeSync } from 'node:fs';

export const failpoints = [
  'source-announced', // a source is noted on the target, its slot is not made
  'source-slot-made', // its slot is made, its position is not kept
  'feed-appended', // the log holds the changes, the feed's position does not say so
  'feed-position-saved', // the feed's position is kept, its slot was not told
  'apply-rows-written', // in the apply transaction: rows, but no versions
  'apply-versions-written', // … versions, but no conflicts and no progress
  'apply-commit-sent', // … the commit was sent, its answer is not known
  'apply-committed', // it stands, the log was not told
  'apply-kept-aside', // a change is parked or a dead letter, its batch goes on
  'resync-slot-noted', // a slot was made anew, its position is not kept
  'resync-position-kept', // its position is kept, nothing is copied
  'resync-chunk-merged', // some keys are copied, the cursor does not say so
  'resync-cursor-saved', // the cursor says so
  'resync-copied', // all are copied, the edge is not ready
  'join-collections-made', // a node that joins has its tables, in a transaction that is open
  'join-filled', // a node that joins has all rows and no index
  'join-index-built', // it has an index
  'join-horizons-taken', // it has all that a master has, and is none
  'shard-planned', // the map says that a shard moves, the job does not
  'shard-chunk-copied', // some keys of a shard are copied, the job does not say so
  'shard-verified', // all is copied and compared, the map is as before
  'shard-switched', // the map says who holds it now, the job does not
  'shard-keys-cleaned', // some keys are taken away from who held it
  'backfill-agreed', // an attached table: others took the versions of equal rows, they are not committed here
  'backfill-committed', // a batch has its versions, the job does not say so
  'job-checkpointed', // a job's checkpoint is kept
  'job-worked', // a job's work is done, its row does not say so
  'purge-horizon-raised', // a horizon is raised on one node
  'purge-horizons-raised', // … on all, nothing is deleted
  'purge-tombstones-deleted', // tombstones are deleted on one node
  'collections-committed', // a change of the collections is committed on one node
  'ddl-committed', // a statement on all masters is committed on one
] as const;
export type Failpoint = (typeof failpoints)[number];

/** What was sent to servers before is given so long to arrive and to be done. */
const settleMs = 50;

let armed: Failpoint | null = null;
let passesLeft = 0;

/** The process dies when it comes to the point for this time. */
export function armFailpoint(name: Failpoint, time = 1): void {
  armed = name;
  passesLeft = time;
}

export function failpoint(name: Failpoint): void {
  if (armed === name) reach(name);
}

function reach(name: Failpoint): void {
  passesLeft -= 1;
  if (passesLeft > 0) return;
  writeSync(2, `reached failpoint ${name}\n`);
  // Nothing of this process may run meanwhile.
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, settleMs);
  process.kill(process.pid, 'SIGKILL');
}
