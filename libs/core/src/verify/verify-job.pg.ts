/**
 * The job `verify`: compares collections on all nodes, shard by shard, and mends what it was told to. Its checkpoint is the shard that it has reached and the report so far, so a
 * runner that takes over goes on there; a shard that was half done is compared again, and what was mended is equal then.
 */
import { listCollections } from '../collections/catalog.pg.ts';
import { PgquorumError } from '../errors/error.ts';
import type { JobHandle, JobWork } from '../jobs/job.ts';
import type { Logger } from '../observability/logger.process.ts';
import { withConnection } from '../postgres/connect.pg.ts';
import type { ClusterNode } from '../topology/found.pg.ts';
import { CollectionPass } from './collection-pass.pg.ts';
import { emptyReport, type Report } from './report.ts';
import { parseVerifyRequest, verifyArguments } from './request.ts';

interface Checkpoint {
  readonly collection: string;
  /** The next one. */
  readonly shard: number;
  readonly done: number;
  readonly report: Report;
}

interface Target {
  readonly name: string;
  readonly shards: number;
}

export interface VerifyWorkOptions {
  readonly cluster: string;
  readonly logger: Logger;
  readonly catchUpMs?: number;
  readonly pageKeys?: number;
}

/** Shards without a difference take no time: the checkpoint is kept after so many of them at the latest. */
const checkpointEvery = 16;

export const verifyWork =
  (options: VerifyWorkOptions): JobWork =>
  async (job, { home, nodes }) => {
    const request = parseVerifyRequest(
      job.arguments,
      nodes.map((node) => node.name),
    );
    const targets = await targetsOf(home, request.collection);
    const before = job.checkpoint as Checkpoint | null;
    const report = before?.report ?? emptyReport();
    const total = targets.reduce((sum, target) => sum + target.shards, 0);
    const progress = { done: before?.done ?? 0, total, unit: 'shards' };
    for (const target of targets) {
      if (before !== null && target.name < before.collection) continue;
      const first = before?.collection === target.name ? before.shard : 0;
      await verifyCollection({ ...options, ...request, nodes, job }, { target, first, report, progress });
    }
    return { ...verifyArguments(request), ...report };
  };

async function targetsOf(home: ClusterNode, only: string | null): Promise<Target[]> {
  const connection = { application: 'pgquorum verify', answerWithinMs: 30_000 };
  const collections = await withConnection(home.address, connection, listCollections);
  const found = collections.map(({ name, table }) => ({ name, shards: table.shards }));
  if (only === null) return found.toSorted((a, b) => (a.name < b.name ? -1 : 1));
  const one = found.find((target) => target.name === only);
  if (one === undefined) throw new PgquorumError('collection_not_found', `collection ${only}`);
  return [one];
}

async function verifyCollection(
  options: VerifyWorkOptions &
    Pick<ReturnType<typeof parseVerifyRequest>, 'deep' | 'repair'> & {
      readonly nodes: readonly ClusterNode[];
      readonly job: JobHandle;
    },
  at: {
    readonly target: Target;
    readonly first: number;
    readonly report: Report;
    readonly progress: { done: number; readonly total: number; readonly unit: string };
  },
): Promise<void> {
  const { target, first, report, progress } = at;
  const { job } = options;
  await using pass = await CollectionPass.open(
    { ...options, collection: target.name, signal: job.signal },
    report,
  );
  const shards = Array.from({ length: target.shards - first }, (_, place) => first + place);
  await pass.digest(shards);
  for (const shard of shards) {
    job.signal.throwIfAborted();
    const { differences } = report;
    await pass.shard(shard);
    progress.done += 1;
    const keep =
      report.differences > differences || progress.done % checkpointEvery === 0 || shard === shards.at(-1);
    const checkpoint: Checkpoint = { collection: target.name, shard: shard + 1, done: progress.done, report };
    await job.report(progress, keep ? checkpoint : undefined);
  }
}
