/** The verbs on single replicas. What they begin is decided again in the job, under locks: here is refused at once what is known to be in the way. */
import { PgquorumError } from '#core/errors/error.ts';
import { isFinished, type JobView } from '#core/jobs/job.ts';
import {
  addJob,
  addReplicaJob,
  parseAdd,
  removeJob,
  removeReplicaJob,
  type RemoveOptions,
} from '#core/membership/replica-request.ts';
import type { Nodes } from '#core/topology/nodes.pg.ts';
import type { JobOperations } from './jobs.ts';

const jobsSeenMax = 100;

export class ReplicaOperations {
  readonly #jobs: JobOperations;
  readonly #nodes: Nodes;

  constructor(parts: { jobs: JobOperations; nodes: Nodes }) {
    this.#jobs = parts.jobs;
    this.#nodes = parts.nodes;
  }

  /** Has the node copy the states of all keys from all others. */
  async sync(node: string): Promise<JobView> {
    this.#check(node);
    return this.#jobs.start({ kind: 'sync', arguments: { node }, unit: 'keys' });
  }

  /** Makes a database a node. */
  async add(body: unknown): Promise<JobView> {
    const request = parseAdd(body);
    if (this.#nodes.byName(request.name) !== undefined)
      throw new PgquorumError('node_exists', `node ${request.name}`);
    await this.#checkAlone();
    return this.#jobs.start(addJob(request));
  }

  /** Takes a node out of the cluster: by handing over what it has, or as one that will not come back. */
  async remove(node: string, options: RemoveOptions): Promise<JobView> {
    this.#check(node);
    if (this.#nodes.all.length === 1) throw new PgquorumError('last_node', `node ${node}`);
    if (options.lost && this.#nodes.byName(node)!.isUp)
      throw new PgquorumError('node_reachable', `node ${node}`);
    await this.#checkAlone(options.lost ? 'lost' : node);
    return this.#jobs.start(removeJob({ node, ...options }), node);
  }

  #check(node: string): void {
    if (this.#nodes.byName(node) === undefined) throw new PgquorumError('node_not_found', `node ${node}`);
  }

  /** Nodes that are lost go at the same time, and one that does not get on with joining may be removed. */
  async #checkAlone(but?: string): Promise<void> {
    for (const kind of [addReplicaJob, removeReplicaJob]) {
      const { items } = await this.#jobs.list({ kind, limit: jobsSeenMax });
      for (const { id, state, arguments: given } of items) {
        const { name, node, lost } = given as { name?: string; node?: string; lost?: boolean };
        const same = but === 'lost' ? lost === true : but !== undefined && name === but;
        if (!isFinished(state) && !same)
          throw new PgquorumError(
            'membership_busy',
            `job ${id}: node ${name ?? node} is ${kind === addReplicaJob ? 'added' : 'removed'}`,
          );
      }
    }
  }
}
