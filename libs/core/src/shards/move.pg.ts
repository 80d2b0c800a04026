/**
 * Moves one shard from a node to another: planned -> copying -> verifying -> switching -> cleaning -> done. Writes go on all the while.
 *
 * Where it stands is read from the shard map itself, so it goes on after a kill at any step, in any process, and two that do the same do no harm:
 * - planned: the entry names the old replicas, and with `next` the new ones. The target is `joining` before anything is copied (fill.pg.ts has the rule).
 * - switching: the target is a replica, the old one `leaving`. From then on gateways are refused there by epoch and go to the new one.
 * - cleaning: the old one's replicator takes away what all replicas have (cleaner.pg.ts). What users still write there is a write like any other, and goes the same way.
 * Cancelled before the switch the map is as before, and what the target has is cleaned away there; after it there is nothing to cancel.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { PgquorumError } from '../errors/error.ts';
import { failpoint } from '../faults/failpoint.process.ts';
import type { JobWork } from '../jobs/job.ts';
import type { Logger } from '../observability/logger.process.ts';
import { withConnection } from '../postgres/connect.pg.ts';
import type { ClusterNode } from '../topology/found.pg.ts';
import type { NodeNumber, ShardNumber } from '../versioning/version.ts';
import { changeEntry, newestEntry, type ShardPlace } from './change.pg.ts';
import type { MoveArguments, ShardChange } from './move-request.ts';
import { replaced, type ShardEntry, type ShardRole } from './entry.ts';
import { copyLeftovers, copyShard, verifyShard, type CopyPlace } from './fill.pg.ts';

export type MovePhase = 'planned' | 'copying' | 'verifying' | 'switching' | 'cleaning' | 'done';

export interface MoveOptions {
  readonly cluster: string;
  /** All members. */
  readonly nodes: readonly ClusterNode[];
  readonly move: ShardChange;
  readonly proposer: NodeNumber;
  readonly logger: Logger;
  readonly signal: AbortSignal;
  readonly keysPerSecond?: number;
  /** Where an earlier run was with the copying. */
  readonly copied: CopyPlace | null;
  readonly onPhase: (phase: MovePhase, copied: CopyPlace | null) => Promise<void>;
}

const lookEveryMs = 200;

/** Resolves when the old replica holds nothing of the shard any more. */
export async function moveShard(options: MoveOptions): Promise<void> {
  const entry = await switchShard(options);
  failpoint('shard-switched');
  await options.onPhase('cleaning', null);
  await cleaned(options, entry);
  await options.onPhase('done', null);
}

/** Resolves when the new replica is one, and the old one is none any more. Gives the entry that says so. */
export async function switchShard(options: MoveOptions): Promise<ShardEntry> {
  const { move, onPhase, signal } = options;
  const place = { collection: move.collection, shard: move.shard as ShardNumber };
  let entry = await newestEntry(options.nodes, place);
  if (isSwitched(entry, move)) return entry;
  await onPhase('planned', options.copied);
  entry = await plan(options, place, entry);
  if (move.to !== null) await fill(options, { place, entry, to: move.to });
  signal.throwIfAborted();
  await onPhase('switching', null);
  failpoint('shard-verified');
  return changeEntry({
    ...options,
    place,
    from: entry,
    to: { replicas: entry.next!, next: null },
    ...(move.to === null ? { needed: [] } : { needed: [move.to], filled: move.to }),
  });
}

const isSwitched = ({ replicas }: ShardEntry, { from, to }: ShardChange): boolean =>
  (to === null || replicas.includes(to)) && (from === null || !replicas.includes(from));

const nodeOf = (nodes: readonly ClusterNode[], name: string): ClusterNode => {
  const found = nodes.find((node) => node.name === name);
  if (found === undefined) throw new PgquorumError('node_not_found', `node ${name}`);
  return found;
};

async function plan(options: MoveOptions, place: ShardPlace, entry: ShardEntry): Promise<ShardEntry> {
  const { move, nodes } = options;
  if (move.to !== null) nodeOf(nodes, move.to);
  const next = replaced(entry.replicas, move.from, move.to);
  const misses =
    (move.from !== null && !entry.replicas.includes(move.from)) ||
    (move.to !== null && entry.replicas.includes(move.to));
  if (misses || next.length === 0)
    throw new PgquorumError(
      'invalid_request',
      `shard ${move.shard} of ${move.collection} is held by ${entry.replicas.join(', ')}: it can be moved from one of them to another node`,
    );
  if (entry.next !== null) {
    if (entry.next.join() === next.join()) return entry;
    throw new PgquorumError(
      'stale_shard_map',
      `shard ${move.shard} of ${move.collection} is being moved already`,
    );
  }
  const planned = await changeEntry({
    ...options,
    place,
    from: entry,
    to: { replicas: entry.replicas, next },
    needed: move.to === null ? [] : [move.to],
  });
  failpoint('shard-planned');
  return planned;
}

async function fill(
  options: MoveOptions,
  { place, entry, to }: { readonly place: ShardPlace; readonly entry: ShardEntry; readonly to: string },
): Promise<void> {
  const { nodes, onPhase, copied } = options;
  const filling = {
    ...options,
    place,
    epoch: entry.epoch,
    target: nodeOf(nodes, to),
    sources: entry.replicas.flatMap((name) => nodes.find((node) => node.name === name) ?? []),
  };
  await onPhase('copying', copied);
  // All replicas are lost for good: what others were written of it, and have not given up, is all that there is.
  if (filling.sources.length === 0) return copyLeftovers(filling);
  const all = await copyShard(filling, copied, (at) => onPhase('copying', at));
  await onPhase('verifying', all);
  await verifyShard(filling);
}

/** A node that was away at the switch, and still calls itself a replica, is waited for too. One that is no member any more has nothing to give up. */
export async function cleaned(
  { nodes, move, signal }: Pick<MoveOptions, 'nodes' | 'move' | 'signal'>,
  entry: ShardEntry,
): Promise<void> {
  const old = nodes.find((node) => node.name === move.from);
  if (old === undefined) return;
  const options = { application: 'pgquorum shards', answerWithinMs: 30_000 };
  await withConnection(old.address, options, async (client) => {
    for (;;) {
      const { rows } = await client.query<{ role: ShardRole; known: boolean }>(
        'select role, epoch >= $3::bigint as known from pgquorum.shard_role where collection = $1 and shard = $2',
        [entry.collection, entry.shard, entry.epoch],
      );
      // Dropped meanwhile, cleaned, or a replica again.
      const [now] = rows;
      if (now === undefined || (now.known && now.role !== 'leaving' && now.role !== 'joining')) return;
      await sleep(lookEveryMs, undefined, { signal });
    }
  });
}

/** The map is as before the move, unless it was switched already. */
export async function cancelMove(options: Pick<MoveOptions, 'nodes' | 'move' | 'proposer'>): Promise<void> {
  const { move, nodes } = options;
  const place = { collection: move.collection, shard: move.shard as ShardNumber };
  const entry = await newestEntry(nodes, place);
  if (entry.next === null || entry.next.join() !== replaced(entry.replicas, move.from, move.to).join())
    return;
  await changeEntry({
    ...options,
    place,
    from: entry,
    to: { replicas: entry.replicas, next: null },
    needed: [],
  });
}

interface Checkpoint {
  readonly phase: MovePhase;
  readonly copied: CopyPlace | null;
}

/** The job `move-shard`, with MoveArguments. */
export const moveWork =
  (options: { readonly cluster: string; readonly logger: Logger; readonly keysPerSecond: number }): JobWork =>
  async (job, { home, nodes }) => {
    const move = job.arguments as MoveArguments;
    const before = job.checkpoint as Checkpoint | null;
    const { signal } = job;
    const onPhase = (phase: MovePhase, copied: CopyPlace | null): Promise<void> =>
      job.report({ done: copied?.keys ?? before?.copied?.keys ?? 0, unit: 'keys' }, { phase, copied });
    // Also one that was cancelled while nobody ran it.
    if (job.takesBack) await cancelMove({ nodes, move, proposer: home.number });
    else
      await moveShard({
        ...options,
        nodes,
        move,
        proposer: home.number,
        signal,
        copied: before?.copied ?? null,
        onPhase,
      });
    return move;
  };
