/** What each kind of job does: the one list of works. A kind is named as in `startJob`. */
import type { JobWork } from '#core/jobs/job.ts';
import type { Replication } from './tokens.ts';

export function jobWorks(_replication: Replication): Readonly<Record<string, JobWork>> {
  return {};
}
