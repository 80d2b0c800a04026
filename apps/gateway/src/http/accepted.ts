/** The answer of every route that starts long work: 202 with the job, and where it can be asked for. */
import type { FastifyReply } from 'fastify';
import { acceptedJob, type JobView } from '#core/jobs/job.ts';

export function accepted(reply: FastifyReply, job: JobView): object {
  reply.code(202).header('location', `/v1/jobs/${job.id}`);
  return acceptedJob(job);
}
