/** Codes of jobs, and of statements that run on all masters: a part of the registry (codes.ts). */
import { entry, type CodeEntry } from './code-entry.ts';

export const jobCodes = {
  // statements on all masters
  ddl_refused: entry(
    400,
    'INVALID_ARGUMENT',
    false,
    'The statement can not be run on all masters',
    'The detail says why. See docs/operating.md for what can; what can not may be run on each master by itself.',
  ),
  ddl_failed: entry(
    409,
    'FAILED_PRECONDITION',
    false,
    'The statement fails on a master',
    'The detail says on which and where it stands. An alter table stands on none then. Mend what is in the way and ask again.',
  ),
  // jobs
  job_not_found: entry(
    404,
    'NOT_FOUND',
    false,
    'There is no such job',
    'List them with GET /v1/jobs. Jobs that have ended are forgotten after a week.',
  ),
  job_finished: entry(
    409,
    'FAILED_PRECONDITION',
    false,
    'The job has ended',
    'There is nothing left to cancel.',
  ),
  job_cancelled: entry(
    409,
    'ABORTED',
    false,
    'The job was cancelled',
    'Somebody asked for its end with DELETE /v1/jobs/{id}. Ask for the work again when it is wanted.',
  ),
  job_irrevocable: entry(
    409,
    'FAILED_PRECONDITION',
    false,
    'The job can not be cancelled any more',
    'It has begun what can not be taken back: half of it would be worse than all of it. It goes on until it is done.',
  ),
  job_abandoned: entry(
    500,
    'INTERNAL',
    false,
    'The job ended its runners again and again',
    'Replicators ended in the middle of it, too often without a step forward. Their logs say why; ask for the work again when that is mended.',
  ),
} as const satisfies Record<string, CodeEntry>;
