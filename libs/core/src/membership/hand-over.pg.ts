/** Whether the nodes that stay have everything: by the positions of the logs, and by comparing versions, which mends what differs. */
import { setTimeout as sleep } from 'node:timers/promises';
import type pg from 'pg';
import { listCollections } from '../collections/catalog.pg.ts';
import { PgquorumError } from '../errors/error.ts';
import type { Logger } from '../observability/logger.process.ts';
import { closeClient, connect } from '../postgres/connect.pg.ts';
import type { ClusterNode } from '../topology/found.pg.ts';
import { caughtUp, markNow, parkedPair, type Reached } from '../verify/catch-up.pg.ts';
import { CollectionPass } from '../verify/collection-pass.pg.ts';
import { emptyReport, kindsText } from '../verify/report.ts';

export interface HandOverOptions {
  readonly cluster: string;
  readonly logger: Logger;
  readonly nodes: readonly ClusterNode[];
  readonly signal: AbortSignal;
}

const withinMs = 30_000;

async function reach<T>(nodes: readonly ClusterNode[], work: (reached: Reached[]) => Promise<T>): Promise<T> {
  const clients: pg.Client[] = [];
  try {
    for (const { address } of nodes)
      clients.push(await connect(address, { application: 'pgquorum membership', answerWithinMs: 60_000 }));
    return await work(nodes.map((node, at) => ({ node, client: clients[at]! })));
  } finally {
    await Promise.all(clients.map(closeClient));
  }
}

const namesOf = async ({ client }: Reached): Promise<string[]> =>
  (await listCollections(client)).map(({ name }) => name);

/** Resolves when the others have applied everything that is committed on the node now. Throws `not_ready`, which says who has not, when they do not get there. */
export async function hasApplied(
  node: ClusterNode,
  others: readonly ClusterNode[],
  signal: AbortSignal,
): Promise<void> {
  await reach([node, ...others], async ([origin, ...targets]) => {
    const collections = await namesOf(origin!);
    const marks = await markNow([origin!]);
    // Without collections there is nothing to wait for but the log itself.
    for (const collection of collections.length === 0 ? [''] : collections) {
      const missing = await caughtUp(marks, targets, { collection, withinMs, signal });
      if (missing.length > 0)
        throw new PgquorumError(
          'not_ready',
          `${missing.map(([from, to]) => (from === parkedPair ? `changes of ${collection} wait aside on ${to}` : `${to} has not applied what ${from} has written`)).join(', ')}`,
        );
    }
  });
}

const everyMs = 100;

export interface TopicApplied {
  /** The end of the topic. */
  readonly positions: ReadonlyMap<number, bigint>;
  readonly signal: AbortSignal;
  /** How long it may take; default 30 s. */
  readonly withinMs?: number;
  /** Told once who is behind, before that is waited for. */
  readonly onBehind?: (node: string) => void;
}

/**
 * Resolves when these nodes have applied a topic of a node that is gone up to these positions. Of one whose place in it was lost nobody can say what it lacks: it is not waited for, and gets it
 * by the comparison.
 */
export async function hasAppliedTopic(
  node: Pick<ClusterNode, 'name' | 'number'>,
  others: readonly ClusterNode[],
  { positions, signal, withinMs: limitMs = withinMs, onBehind }: TopicApplied,
): Promise<void> {
  const until = performance.now() + limitMs;
  await reach(others, async (targets) => {
    for (const { node: target, client } of targets)
      for (let look = 0; ; look += 1) {
        const { rows } = await client.query<{ stream: number; position: string; lost: boolean }>(
          `select p.stream, min(p.position)::text as position, exists (select from pgquorum.resync r where r.origin = $1 and r.phase = 'noting') as lost
           from pgquorum.progress p where p.origin = $1 and p.log = 'kafka' group by p.stream`,
          [node.number],
        );
        const at = new Map(rows.map(({ stream, position }) => [stream, BigInt(position)]));
        const behind = [...positions].some(([stream, end]) => end >= 0n && (at.get(stream) ?? -1n) < end);
        if (!behind || rows.some(({ lost }) => lost)) break;
        if (look === 0) onBehind?.(target.name);
        if (performance.now() > until)
          throw new PgquorumError(
            'not_ready',
            `${target.name} has not applied the topic of ${node.name} to its end`,
          );
        await sleep(everyMs, undefined, { signal });
      }
  });
}

/**
 * Compares all collections and merges what differs, whole states both ways. Throws `not_ready` when a node can not be asked or does not take what it lacks. Keys that are being written
 * all the time are merged as they are, and their last changes come by the logs.
 */
export async function compareAll(options: HandOverOptions): Promise<void> {
  const { nodes, logger } = options;
  for (const collection of await reach([nodes[0]!], ([first]) => namesOf(first!))) {
    const report = emptyReport();
    await using pass = await CollectionPass.open(
      { ...options, collection, deep: false, repair: { kind: 'merge' } },
      report,
    );
    const shards = Array.from({ length: pass.shards }, (_, shard) => shard);
    await pass.digest(shards);
    for (const shard of shards) {
      options.signal.throwIfAborted();
      await pass.shard(shard);
    }
    const left = report.differences - report.byOutcome.mended;
    if (report.differences > 0)
      logger.warn(
        { collection, differences: report.differences, left, kinds: kindsText(report) },
        'nodes differed before one of them goes',
      );
    if (report.unreachable.length > 0)
      throw new PgquorumError('not_ready', `${report.unreachable.join(', ')} can not be asked what it has`);
    if (left > 0)
      throw new PgquorumError(
        'not_ready',
        `${left} keys of ${collection} differ and could not be made alike: see dead letters, paused collections and POST /v1/verify`,
      );
  }
}
