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
import { PgquorumError, isPgquorumError } from '../errors/error.ts';
import { failpoint } from '../faults/failpoint.process.ts';
import type { JobWork } from '../jobs/job.ts';
import type { Logger } from '../observability/logger.process.ts';
import { closeClient, connect } from '../postgres/connect.pg.ts';
import type { ClusterNode } from '../topology/found.pg.ts';
import type { NodeNumber, ShardNumber } from '../versioning/version.ts';
import { changeEntry, newestEntry, type ShardPlace } from './change.pg.ts';
import type { MoveArguments } from './move-request.ts';
import { replaced, type ShardEntry, type ShardRole } from './entry.ts';
import { copyShard, verifyShard, type CopyPlace } from './fill.pg.ts';

export type MovePhase = 'planned' | 'copying' | 'verifying' | 'switching' | 'cleaning' | 'done';

export interface MoveOptions {
  readonly cluster: string;
  /** All members. */
  readonly nodes: readonly ClusterNode[];
  readonly move: MoveArguments;
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
  const { move, onPhase, signal } = options;
  const place = { collection: move.collection, shard: move.shard as ShardNumber };
  let entry = await newestEntry(options.nodes, place);
  if (!isSwitched(entry, move)) {
    await onPhase('planned', options.copied);
    entry = await plan(options, place, entry);
    await fill(options, place, entry);
    signal.throwIfAborted();
    await onPhase('switching', null);
    failpoint('shard-verified');
    entry = await changeEntry({
      ...options,
      place,
      from: entry,
      to: { replicas: entry.next!, next: null },
      needed: [move.to],
      filled: move.to,
    });
  }
  failpoint('shard-switched');
  await onPhase('cleaning', null);
  await cleaned(options, entry);
  await onPhase('done', null);
}

const isSwitched = ({ replicas }: ShardEntry, { from, to }: MoveArguments): boolean =>
  replicas.includes(to) && !replicas.includes(from);

const nodeOf = (nodes: readonly ClusterNode[], name: string): ClusterNode => {
  const found = nodes.find((node) => node.name === name);
  if (found === undefined) throw new PgquorumError('node_not_found', `node ${name}`);
  return found;
};

async function plan(options: MoveOptions, place: ShardPlace, entry: ShardEntry): Promise<ShardEntry> {
  const { move, nodes } = options;
  nodeOf(nodes, move.to);
  if (!entry.replicas.includes(move.from) || entry.replicas.includes(move.to))
    throw new PgquorumError(
      'invalid_request',
      `shard ${move.shard} of ${move.collection} is held by ${entry.replicas.join(', ')}: it can be moved from one of them to another node`,
    );
  const next = replaced(entry.replicas, move.from, move.to);
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
    needed: [move.to],
  });
  failpoint('shard-planned');
  return planned;
}

async function fill(options: MoveOptions, place: ShardPlace, entry: ShardEntry): Promise<void> {
  const { nodes, move, onPhase, copied } = options;
  const filling = {
    ...options,
    place,
    epoch: entry.epoch,
    target: nodeOf(nodes, move.to),
    sources: entry.replicas.flatMap((name) => nodes.find((node) => node.name === name) ?? []),
  };
  await onPhase('copying', copied);
  const all = await copyShard(filling, copied, (at) => onPhase('copying', at));
  await onPhase('verifying', all);
  await verifyShard(filling);
}

/** A node that was away at the switch, and still calls itself a replica, is waited for too. One that is no member any more has nothing to give up. */
async function cleaned({ nodes, move, signal }: MoveOptions, entry: ShardEntry): Promise<void> {
  const old = nodes.find((node) => node.name === move.from);
  if (old === undefined) return;
  const client = await connect(old.address, { application: 'pgquorum shards', answerWithinMs: 30_000 });
  try {
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
  } finally {
    await closeClient(client);
  }
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
    try {
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
    } catch (cause) {
      if (isPgquorumError(signal.reason) && signal.reason.code === 'job_cancelled')
        await cancelMove({ nodes, move, proposer: home.number });
      throw cause;
    }
  };
