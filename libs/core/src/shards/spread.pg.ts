/**
 * Moves shards when nodes come and go. What is to be done is read from the map as it is each time, moves that were begun included, so whoever comes next goes on, wherever
 * the one before was cut off. Moves of others that are in the way are taken back in the map: their jobs plan them anew.
 */
import type pg from 'pg';
import type { Logger } from '../observability/logger.process.ts';
import { withConnection } from '../postgres/connect.pg.ts';
import { isUnreachable } from '../postgres/sqlstate.ts';
import type { JobWork } from '../jobs/job.ts';
import type { ClusterNode } from '../topology/found.pg.ts';
import { ShardPlacement, type PlacementSettings } from '../topology/shard-placement.ts';
import type { NodeNumber } from '../versioning/version.ts';
import { changeEntry, newestMaps } from './change.pg.ts';
import type { ShardEntry, ShardMap } from './entry.ts';
import { shardConnection } from './map.pg.ts';
import type { ShardChange, TakeArguments } from './move-request.ts';
import { switchShard } from './move.pg.ts';
import { inTheWay, movesFrom, movesTo, type Preference } from './spread.ts';

export interface SpreadOptions {
  readonly cluster: string;
  /** All members that are not lost. */
  readonly nodes: readonly ClusterNode[];
  readonly proposer: NodeNumber;
  readonly placement: PlacementSettings;
  readonly keysPerSecond: number;
  readonly logger: Logger;
  readonly signal: AbortSignal;
  readonly onSwitched?: (done: number, total: number) => Promise<void>;
}

/** A move waits for logs most of the time. */
const atOnceMax = 4;

/** The node is given what placement says. */
export async function takeShards(options: SpreadOptions, node: string): Promise<void> {
  const home = options.nodes.find(({ number }) => number === options.proposer)!;
  const factors = await withConnection(home.address, shardConnection, readFactors);
  const preference = await preferenceOf(options, { but: null, with: node });
  await repeat(options, node, ({ map }) => {
    const replicationFactor = factors.get(map[0]!.collection);
    return replicationFactor === undefined ? [] : movesTo(node, { map, replicationFactor }, preference);
  });
}

/** The node gives up all that it holds. It may be lost, and none of `nodes`. */
export async function giveShards(options: SpreadOptions, node: string): Promise<void> {
  const preference = await preferenceOf(options, { but: node, with: null });
  await repeat(options, node, ({ map }) => movesFrom(node, { map }, preference));
}

/** What was begun for the node is undone, where it was not switched. */
export async function takeBackMoves(options: SpreadOptions, node: string): Promise<void> {
  const maps = await newestMaps(options.nodes);
  for (const entry of [...maps.values()].flat())
    if (entry.next !== null && entry.replicas.includes(node)) await undo(options, entry);
}

async function repeat(
  options: SpreadOptions,
  node: string,
  plan: (collection: { readonly map: ShardMap }) => ShardChange[],
): Promise<void> {
  for (;;) {
    const maps = [...(await newestMaps(options.nodes)).values()];
    const changes = maps.flatMap((map) => plan({ map }));
    const blocked = maps.flatMap((map) => inTheWay(map, node, changes));
    for (const entry of blocked) await undo(options, entry);
    if (blocked.length > 0) continue;
    if (changes.length === 0) return;
    await runChanges(options, changes);
  }
}

const undo = (options: SpreadOptions, entry: ShardEntry): Promise<ShardEntry> =>
  changeEntry({
    ...options,
    place: entry,
    from: entry,
    to: { replicas: entry.replicas, next: null },
    needed: [],
  });

async function runChanges(options: SpreadOptions, changes: readonly ShardChange[]): Promise<void> {
  const waiting = [...changes];
  let done = 0;
  let failed = false;
  const worker = async (): Promise<void> => {
    for (let move = waiting.shift(); move !== undefined && !failed; move = waiting.shift()) {
      options.signal.throwIfAborted();
      try {
        await switchShard({ ...options, move, copied: null, onPhase: () => Promise.resolve() });
      } catch (cause) {
        failed = true;
        throw cause;
      }
      done += 1;
      await options.onSwitched?.(done, changes.length);
    }
  };
  const ended = await Promise.allSettled(Array.from({ length: atOnceMax }, worker));
  for (const one of ended) if (one.status === 'rejected') throw one.reason;
}

/** Over the members that neither join nor go. */
async function preferenceOf(
  { nodes, placement }: SpreadOptions,
  given: { readonly but: string | null; readonly with: string | null },
): Promise<Preference> {
  const usable: ClusterNode[] = [];
  for (const node of nodes)
    if (node.name !== given.but && (node.name === given.with || (await isSettled(node)))) usable.push(node);
  const placed = new ShardPlacement(usable, placement);
  return ({ collection, shard }) => placed.nodesOf(collection, shard);
}

/** One that can not be asked is one that is away. */
async function isSettled(node: ClusterNode): Promise<boolean> {
  try {
    return await withConnection(node.address, shardConnection, async (client) => {
      const { rows } = await client.query<{ settled: boolean }>(
        'select n.joining_since is null and not exists (select from pgquorum.member m where m.number = n.number and (m.change is not null or m.retired)) as settled from pgquorum.node n',
      );
      return rows[0]?.settled === true;
    });
  } catch (cause) {
    if (isUnreachable(cause)) return true;
    throw cause;
  }
}

async function readFactors(client: pg.Client): Promise<Map<string, number>> {
  const { rows } = await client.query<{ name: string; factor: number }>(
    `select c.name, (c.definition ->> 'replicationFactor')::int as factor from pgquorum.collection c where c.definition ? 'replicationFactor'`,
  );
  return new Map(rows.map(({ name, factor }) => [name, factor]));
}

/** The job `take-shards`, at the node that came, with TakeArguments. */
export const takeShardsWork =
  (options: Pick<SpreadOptions, 'cluster' | 'placement' | 'keysPerSecond' | 'logger'>): JobWork =>
  async (job, { home, nodes }) => {
    const { node } = job.arguments as TakeArguments;
    let taken = 0;
    await takeShards(
      {
        ...options,
        nodes,
        proposer: home.number,
        signal: job.signal,
        onSwitched: (done, total) => {
          taken += 1;
          return job.report({ done, total, unit: 'shards' });
        },
      },
      node,
    );
    return { node, shards: taken };
  };
