/** The verbs on single replicas. */
import { PgquorumError } from '#core/errors/error.ts';
import type { JobView } from '#core/jobs/job.ts';
import type { JobOperations } from './jobs.ts';

export class ReplicaOperations {
  readonly #jobs: JobOperations;
  readonly #nodes: readonly string[];

  constructor(parts: { jobs: JobOperations; nodes: readonly string[] }) {
    this.#jobs = parts.jobs;
    this.#nodes = parts.nodes;
  }

  /** Has the node copy the states of all keys from all others. */
  async sync(node: string): Promise<JobView> {
    if (!this.#nodes.includes(node)) throw new PgquorumError('node_not_found', `node ${node}`);
    return this.#jobs.start({ kind: 'sync', arguments: { node }, unit: 'keys' });
  }
}
