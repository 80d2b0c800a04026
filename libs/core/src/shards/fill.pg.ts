/**
 * Fills a node that is `joining` a shard: copies what it passed over before, and verifies it against the shard's replicas.
 *
 * The rule: the node's role was committed before this begins, so its lanes apply all that comes from then on. What they passed over was read from some origin before
 * that commit, so it is before a mark that is taken at the origin now. A source is copied from only once it has applied every origin's mark, and has nothing of the
 * collection parked. Origins are all members: one that can not be reached holds this up, since nobody else knows what was read of it; one that is lost for good is retired.
 * What a source put aside for good (dead letters) or lost behind its triggers is found by the verification, which merges what any replica has.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type { KeyTexts } from '../changelog/change.ts';
import { keyText } from '../changelog/change.ts';
import { PgquorumError } from '../errors/error.ts';
import { failpoint } from '../faults/failpoint.process.ts';
import type { Logger } from '../observability/logger.process.ts';
import { closeClient, connect } from '../postgres/connect.pg.ts';
import type { ClusterNode } from '../topology/found.pg.ts';
import { caughtUp, markNow, type Reached } from '../verify/catch-up.pg.ts';
import { CollectionPass } from '../verify/collection-pass.pg.ts';
import { copyRange } from '../verify/copy-states.pg.ts';
import { emptyReport } from '../verify/report.ts';
import type { ShardPlace } from './change.pg.ts';
import { shardConnection } from './map.pg.ts';

export interface FillOptions {
  readonly cluster: string;
  readonly place: ShardPlace;
  /** Of the entry that it is filled under. */
  readonly epoch: number;
  readonly target: ClusterNode;
  /** The replicas that are complete, the preferred one first. */
  readonly sources: readonly ClusterNode[];
  /** All members. */
  readonly nodes: readonly ClusterNode[];
  readonly logger: Logger;
  readonly signal: AbortSignal;
  readonly keysPerSecond?: number;
  readonly catchUpMs?: number;
}

export interface CopyPlace {
  readonly source: string;
  /** Of the entry under which it was copied: under another one the target may have been cleaned meanwhile. */
  readonly epoch: number;
  /** Behind this key; null = from the beginning. */
  readonly after: KeyTexts | null;
  /** All is copied. */
  readonly complete?: true;
  readonly keys: number;
}

const catchUpMsDefault = 60_000;
const verifyPassesMax = 10;
/** Keys that are still in flight then are merged as they are. */
const inFlightMs = 5000;

/** Copies from the first source that can serve. `begun` is where an earlier run was; `onStep` is told what is durable on the target. */
export async function copyShard(
  options: FillOptions,
  begun: CopyPlace | null,
  onStep: (place: CopyPlace) => Promise<void>,
): Promise<CopyPlace> {
  if (begun?.complete === true && begun.epoch === options.epoch) return begun;
  const source = await usableSource(options, begun);
  const { epoch } = options;
  // Another source has what it has in another order of time: from the beginning.
  const from =
    begun?.source === source.name && begun.epoch === epoch
      ? begun
      : { source: source.name, epoch, after: null, keys: 0 };
  const keys = await copyFrom(options, { source, from, onStep });
  return { source: source.name, epoch, after: null, keys, complete: true };
}

/** Of a shard without another replica: what the other nodes were, or are written, and have not given up. All of them have to be reached. */
export async function copyLeftovers(options: FillOptions): Promise<void> {
  const { nodes, target, epoch } = options;
  for (const source of nodes)
    if (source.number !== target.number)
      await copyFrom(options, {
        source,
        from: { source: source.name, epoch, after: null, keys: 0 },
        onStep: () => Promise.resolve(),
      });
}

interface Copying {
  readonly source: ClusterNode;
  readonly from: CopyPlace;
  readonly onStep: (place: CopyPlace) => Promise<void>;
}

/** How many keys were copied, those before `from` included. */
async function copyFrom(options: FillOptions, { source, from, onStep }: Copying): Promise<number> {
  const { cluster, place, epoch, target, logger, signal } = options;
  let keys = from.keys;
  const started = performance.now();
  const copied = { cluster, collection: place.collection, source, target, logger, signal, copied: true };
  for await (const step of copyRange(copied, { shard: place.shard, after: from.after })) {
    if (step.refused.length > 0)
      throw new PgquorumError(
        'constraint_violated',
        `${target.name} refuses ${step.refused.length} rows of shard ${place.shard} of ${place.collection}, the first of them ${JSON.stringify(keyText(step.refused[0]!.key))}: ${step.refused[0]!.reason}`,
      );
    if (step.rowless.length > 0)
      logger.warn(
        { ...place, keys: step.rowless.length },
        'rows are gone whose versions are alive: not copied',
      );
    keys += step.read;
    failpoint('shard-chunk-copied');
    if (step.next !== null) await onStep({ source: source.name, epoch, after: step.next, keys });
    await pace(keys - from.keys, started, options);
  }
  return keys;
}

async function pace(keys: number, started: number, { keysPerSecond, signal }: FillOptions): Promise<void> {
  if (keysPerSecond === undefined) return;
  const aheadMs = (keys / keysPerSecond) * 1000 - (performance.now() - started);
  if (aheadMs > 0) await sleep(aheadMs, undefined, { signal });
}

async function usableSource(options: FillOptions, begun: CopyPlace | null): Promise<ClusterNode> {
  const { place, target, sources, nodes, signal, catchUpMs = catchUpMsDefault } = options;
  const opened: Reached[] = [];
  const close: (() => Promise<void>)[] = [];
  const open = async (node: ClusterNode): Promise<Reached> => {
    const client = await connect(node.address, shardConnection);
    close.push(() => closeClient(client));
    return { node, client };
  };
  try {
    for (const node of nodes) if (node.number !== target.number) opened.push(await open(node));
    const marks = await markNow(opened);
    const preferred = sources.toSorted(
      (a, b) => Number(b.name === begun?.source) - Number(a.name === begun?.source),
    );
    let behind: [string, string][] = [];
    for (const source of preferred) {
      const reached = opened.find(({ node }) => node.number === source.number);
      if (reached === undefined) continue;
      behind = await caughtUp(marks, [reached], {
        collection: place.collection,
        withinMs: catchUpMs / preferred.length,
        signal,
      });
      if (behind.length === 0) return source;
    }
    throw new PgquorumError(
      'not_ready',
      `no replica of shard ${place.shard} of ${place.collection} has applied what ${target.name} passed over: ${behind.map(([origin, at]) => `${origin} -> ${at}`).join(', ')}`,
    );
  } finally {
    await Promise.all(close.map((one) => one()));
  }
}

/** Resolves once the target has all that the replicas which can be reached have, a majority of them at least. */
export async function verifyShard(options: FillOptions): Promise<void> {
  const { cluster, place, target, sources, logger, signal } = options;
  for (let passes = 1; ; passes += 1) {
    const report = emptyReport();
    await using pass = await CollectionPass.open(
      {
        cluster,
        collection: place.collection,
        deep: false,
        repair: { kind: 'merge' },
        nodes: [...sources, target],
        joining: target.name,
        catchUpMs: inFlightMs,
        logger,
        signal,
      },
      report,
    );
    const compared = pass.nodes.filter((node) => node.name !== target.name && node.holds(place.shard));
    if (!pass.nodes.some((node) => node.name === target.name) || compared.length * 2 <= sources.length)
      throw new PgquorumError(
        'replicas_unavailable',
        `shard ${place.shard} of ${place.collection} is verified against a majority of its replicas, and ${compared.length} of ${sources.length} can be reached`,
      );
    await pass.digest([place.shard]);
    await pass.shard(place.shard);
    // Keys that are written all the time were merged as they are; what comes after is in the logs.
    if (report.differences === report.byOutcome.mended) return;
    if (passes === verifyPassesMax)
      throw new PgquorumError(
        'not_ready',
        `shard ${place.shard} of ${place.collection} still differs between its replicas and ${target.name}`,
      );
  }
}
