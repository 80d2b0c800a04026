/** Runs the work of a verification as a runner of jobs would, without one. */
import type { JobHandle } from '#core/jobs/job.ts';
import { listeningLogger, type TestCluster } from '#core/testing/cluster.pg.ts';
import type { Report } from '#core/verify/report.ts';
import { verifyWork, type VerifyWorkOptions } from '#core/verify/verify-job.pg.ts';

export interface RunVerify extends Partial<VerifyWorkOptions> {
  readonly checkpoint?: unknown;
  readonly signal?: AbortSignal;
  readonly onReport?: (done: number, checkpoint: unknown) => void;
}

export async function runVerify(
  cluster: TestCluster,
  request: Readonly<Record<string, unknown>>,
  { checkpoint = null, signal = new AbortController().signal, onReport, ...options }: RunVerify = {},
): Promise<Report> {
  const job: JobHandle = {
    id: '00000000-0000-0000-0000-000000000000',
    arguments: request,
    checkpoint,
    signal,
    takesBack: false,
    reportLast: () => Promise.reject(new Error('a verification takes nothing back')),
    report: (progress, kept) => {
      signal.throwIfAborted();
      // As the database keeps it.
      onReport?.(progress.done, kept === undefined ? undefined : JSON.parse(JSON.stringify(kept)));
      return Promise.resolve();
    },
  };
  const work = verifyWork({ cluster: cluster.cluster, logger: listeningLogger().logger, ...options });
  const { nodes } = cluster;
  return (await work(job, { home: nodes[0]!, nodes })) as Report;
}

/** As if all logs had been read to their ends and had brought nothing. */
export async function pretendCaughtUp(cluster: TestCluster): Promise<void> {
  await cluster.everywhere(
    `insert into pgquorum.progress (origin, log, stream, lane, position, commit_time) select s.origin, s.log, 0, l, 9000000000000000, 'infinity' from pgquorum.source s, generate_series(0, s.lanes - 1) l
     on conflict (origin, log, stream, lane) do update set position = excluded.position`,
  );
}
