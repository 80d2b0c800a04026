/**
 * Long work: a job is asked for at one node, its home, and run by one of the replicators that serve it. Its state, progress and checkpoint are a row there.
 *
 * Contract of a work: it may be begun again at any moment, from the last checkpoint that was kept, so each of its steps is safe to repeat; and for a moment
 * two runners may be at it (one whose connection the server has given up does not know it yet). Its arguments and its result are shown to whoever may list
 * jobs: no secrets, no rows. Pure.
 */
import type { NodeAddress } from '../config/settings.ts';
import { PgquorumError } from '../errors/error.ts';
import { integerIn, invalid, oneOf, unknownField } from '../requests/fields.ts';
import type { FoundNode } from '../topology/numbers.ts';

export const jobStates = ['waiting', 'running', 'done', 'failed', 'cancelled'] as const;
export type JobState = (typeof jobStates)[number];

export interface JobProgress {
  readonly done: number;
  /** Null when nobody knows. */
  readonly total: number | null;
  readonly unit: string;
}

export interface JobHandle {
  readonly id: string;
  readonly arguments: unknown;
  /** What nobody may see of them. */
  readonly secret?: unknown;
  /** The last one that was kept; null at the first beginning. */
  readonly checkpoint: unknown;
  /** Aborted when the job is cancelled, its runner stops, or its lock is lost: the work ends soon after, and throws. */
  readonly signal: AbortSignal;
  /** It was cancelled, and is run to take back what it has done: only those are that were started so, and never with a signal that cancelling has aborted. */
  readonly takesBack: boolean;
  /** Kept durably when it resolves, if there is a checkpoint; progress alone is written now and then. Throws once the signal is aborted. */
  report(
    progress: { readonly done: number; readonly total?: number | undefined; readonly unit: string },
    checkpoint?: unknown,
  ): Promise<void>;
  /** The same before what can not be taken back: throws `job_cancelled` if somebody has cancelled it; when it resolves cancelling is refused with `job_irrevocable`. */
  reportLast(
    progress: { readonly done: number; readonly total?: number | undefined; readonly unit: string },
    checkpoint: unknown,
  ): Promise<void>;
}

/** A ClusterNode, in the words of pure code. */
export interface JobNode extends FoundNode {
  readonly address: NodeAddress;
}

/** Gives the job's result, as JSON. An error that may pass by itself is tried again after a pause; any other ends the job with its code. */
export type JobWork = (
  job: JobHandle,
  place: { readonly home: JobNode; readonly nodes: readonly JobNode[] },
) => Promise<unknown>;

export interface JobError {
  readonly code: string;
  readonly detail: string;
}

/** A row of pgquorum.job, as it is read. */
export interface Job {
  readonly id: string;
  readonly kind: string;
  readonly arguments: unknown;
  readonly state: JobState;
  readonly cancelRequested: boolean;
  readonly progress: JobProgress;
  readonly result: unknown;
  readonly error: JobError | null;
  readonly failures: number;
  /** To the microsecond, so that a page ends exactly where the next begins. */
  readonly createdAt: string;
  readonly updatedAt: string;
}

export interface JobView {
  readonly id: string;
  readonly kind: string;
  readonly state: JobState;
  readonly progress: JobProgress;
  /** The node at which it was asked for. */
  readonly home: string;
  readonly arguments: unknown;
  readonly cancelRequested?: true;
  readonly result?: unknown;
  readonly error?: JobError;
  readonly createdAt: string;
  readonly updatedAt: string;
}

export const jobView = (job: Job, home: string): JobView => ({
  id: job.id,
  kind: job.kind,
  state: job.state,
  progress: job.progress,
  home,
  arguments: job.arguments,
  ...(job.cancelRequested && job.state !== 'cancelled' ? { cancelRequested: true as const } : {}),
  ...(job.state === 'done' ? { result: job.result } : {}),
  ...(job.error === null ? {} : { error: job.error }),
  createdAt: job.createdAt,
  updatedAt: job.updatedAt,
});

/** What a request that starts long work is answered with. */
export const acceptedJob = ({ id, state, progress }: Pick<JobView, 'id' | 'state' | 'progress'>) => ({
  job: { id, state, progress },
});

export const isFinished = (state: JobState): boolean =>
  state === 'done' || state === 'failed' || state === 'cancelled';

const pauseMinMs = 500;
const pauseMaxMs = 60_000;

/** After this many failures in a row. */
export const retryPauseMs = (failures: number): number =>
  Math.min(pauseMaxMs, pauseMinMs * 2 ** Math.min(failures - 1, 20));

// Lists ---------------------------------------------------------------------------------------------------------------------------

const limitDefault = 100;
const limitMax = 1000;

/** Where a page ends: newest first. */
export interface JobPosition {
  readonly createdAt: string;
  readonly id: string;
}

export interface JobQuery {
  readonly state: JobState | null;
  readonly kind: string | null;
  readonly limit: number;
  readonly after: JobPosition | null;
}

export function parseJobQuery(query: Readonly<Record<string, unknown>>): JobQuery {
  const { limit, cursor, state, kind, ...others } = query;
  const [unknown] = Object.keys(others);
  if (unknown !== undefined) throw unknownField(unknown);
  if (kind !== undefined && (typeof kind !== 'string' || !/^[a-z][a-z0-9-]{0,47}$/.test(kind)))
    throw invalid('kind: matches ^[a-z][a-z0-9-]{0,47}$');
  return {
    state: state === undefined ? null : oneOf('state', state, jobStates),
    kind: kind === undefined ? null : kind,
    limit: limit === undefined ? limitDefault : integerIn('limit', limit, { min: 1, max: limitMax }),
    after: cursor === undefined ? null : parseCursor(cursor),
  };
}

const uuid = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/;

export function checkJobId(id: string): string {
  const lower = id.toLowerCase();
  if (!uuid.test(lower)) throw new PgquorumError('job_not_found', 'the id of a job is a uuid');
  return lower;
}

function parseCursor(cursor: unknown): JobPosition {
  try {
    const [createdAt, id] = JSON.parse(Buffer.from(String(cursor), 'base64url').toString()) as unknown[];
    if (
      typeof createdAt === 'string' &&
      /^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}\.\d{6}Z$/.test(createdAt) &&
      typeof id === 'string' &&
      uuid.test(id)
    )
      return { createdAt, id };
  } catch {
    // falls through: it is no cursor of ours
  }
  throw invalid('cursor: is not one that a list has given');
}

const makeCursor = ({ createdAt, id }: JobPosition): string =>
  Buffer.from(JSON.stringify([createdAt, id])).toString('base64url');

const newestFirst = (a: JobPosition, b: JobPosition): number =>
  a.createdAt === b.createdAt ? (a.id < b.id ? -1 : 1) : a.createdAt > b.createdAt ? -1 : 1;

/** One page of the pages of all nodes, each of which has one job more than the page if there are more. */
export function mergePages(
  pages: readonly (readonly JobView[])[],
  limit: number,
): { readonly items: JobView[]; readonly nextCursor?: string } {
  const all = pages.flat().toSorted(newestFirst);
  const items = all.slice(0, limit);
  return { items, ...(all.length > limit ? { nextCursor: makeCursor(items.at(-1)!) } : {}) };
}
