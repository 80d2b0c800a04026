/** The verb that compares masters and mends what differs. */
import type { CollectionDirectory } from '#core/collections/directory.pg.ts';
import type { Nodes } from '#core/topology/nodes.pg.ts';
import { deadlineIn } from '#core/postgres/session.pg.ts';
import type { JobView } from '#core/jobs/job.ts';
import { parseVerifyRequest, verifyArguments } from '#core/verify/request.ts';
import { defaultTimeoutMs } from '#core/writes/consistency.ts';
import type { JobOperations } from './jobs.ts';

export class VerifyOperations {
  readonly #directory: CollectionDirectory;
  readonly #jobs: JobOperations;
  readonly #nodes: Nodes;

  constructor(parts: { directory: CollectionDirectory; jobs: JobOperations; nodes: Nodes }) {
    this.#directory = parts.directory;
    this.#jobs = parts.jobs;
    this.#nodes = parts.nodes;
  }

  async start(body: unknown): Promise<JobView> {
    const request = parseVerifyRequest(
      body,
      this.#nodes.all.map(({ name }) => name),
    );
    if (request.collection !== null)
      await this.#directory.get(request.collection, deadlineIn(defaultTimeoutMs));
    return this.#jobs.start({ kind: 'verify', arguments: verifyArguments(request), unit: 'shards' });
  }
}
