/** A job as its message. */
import type { JobView } from '#core/jobs/job.ts';

export function showJob({ progress, arguments: given, result, ...job }: JobView): object {
  const { total, ...known } = progress;
  return {
    ...job,
    progress: total === null ? known : progress,
    argumentsJson: JSON.stringify(given),
    ...(result === undefined ? {} : { resultJson: JSON.stringify(result) }),
  };
}
