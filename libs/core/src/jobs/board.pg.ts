/** The jobs of all nodes, as a gateway shows and starts them. A job is a row at its home alone: while that is down nothing can be said about it. */
import type pg from 'pg';
import { isPgquorumError, PgquorumError } from '../errors/error.ts';
import { deadlineIn } from '../postgres/session.pg.ts';
import { isNodeFailure, onFirst, type Node, type Nodes } from '../topology/nodes.pg.ts';
import { checkJobId, jobView, mergePages, type Job, type JobQuery, type JobView } from './job.ts';
import { cancelJob, listJobs, readJob, startJob, type JobRequest } from './store.pg.ts';

const startWithinMs = 10_000;
const answerWithinMs = 3000;

type Asked<T> =
  { readonly node: Node; readonly answer: T } | { readonly node: Node; readonly failure: unknown };

export interface JobList {
  readonly items: JobView[];
  readonly nextCursor?: string;
  /** Nodes whose jobs are not in the list. */
  readonly unreachable?: string[];
}

export class JobBoard {
  readonly #nodes: Nodes;
  readonly #failureTimeoutMs: number;

  constructor(nodes: Nodes, options: { readonly failureTimeoutMs: number }) {
    this.#nodes = nodes;
    this.#failureTimeoutMs = options.failureTimeoutMs;
  }

  /** At a node that can be reached, other than `without`; at one whose replicator is alive, if there is one. */
  async start(request: JobRequest, without?: string): Promise<JobView> {
    const served = await this.#served();
    const order = this.#nodes.anyOrder().filter((node) => node.name !== without);
    const first = [...order.filter((node) => served.has(node)), ...order.filter((node) => !served.has(node))];
    return onFirst(first, deadlineIn(startWithinMs), async (client, node) =>
      jobView(await startJob(client, request), node.name),
    );
  }

  /** Whose heartbeat is fresh: the replicator that serves a node writes it, and runs its jobs. */
  async #served(): Promise<ReadonlySet<Node>> {
    const asked = await this.#ask(this.#nodes.live, async (client) => {
      const { rows } = await client.query<{ fresh: boolean }>(
        `select clock_timestamp() - h.at < $1 * interval '1 millisecond' as fresh from pgquorum.heartbeat h join pgquorum.node n on n.number = h.number`,
        [this.#failureTimeoutMs],
      );
      return rows[0]?.fresh === true;
    });
    return new Set(asked.flatMap((one) => ('answer' in one && one.answer ? [one.node] : [])));
  }

  async list(query: JobQuery): Promise<JobList> {
    const asked = await this.#ask(this.#nodes.all, (client) => listJobs(client, query));
    const pages = asked.flatMap((one) =>
      'answer' in one ? [one.answer.map((job) => jobView(job, one.node.name))] : [],
    );
    if (pages.length === 0)
      throw new PgquorumError('replicas_unavailable', 'no node can be asked for its jobs');
    const unreachable = asked.flatMap((one) => ('failure' in one ? [one.node.name] : []));
    return { ...mergePages(pages, query.limit), ...(unreachable.length > 0 ? { unreachable } : {}) };
  }

  get(id: string): Promise<JobView> {
    return this.#find(id, readJob);
  }

  /** Its state when that could be said: a running one ends within seconds. */
  cancel(id: string): Promise<JobView> {
    return this.#find(id, cancelJob);
  }

  async #find(
    given: string,
    act: (client: Parameters<typeof readJob>[0], id: string) => Promise<Job | null>,
  ): Promise<JobView> {
    const id = checkJobId(given);
    const asked = await this.#ask(this.#nodes.all, (client) => act(client, id));
    for (const one of asked)
      if ('answer' in one && one.answer !== null) return jobView(one.answer, one.node.name);
    const lost = asked.filter((one) => 'failure' in one);
    if (lost.length > 0)
      throw new PgquorumError(
        'replicas_unavailable',
        `job ${id} may be at ${lost.map((one) => one.node.name).join(', ')}, which can not be reached`,
        { cause: lost[0]!.failure },
      );
    throw new PgquorumError('job_not_found', `job ${id}`);
  }

  /** Every node at once; one that is silent delays the answer by so much and no more. */
  async #ask<T>(nodes: readonly Node[], ask: (client: pg.PoolClient) => Promise<T>): Promise<Asked<T>[]> {
    return Promise.all(
      nodes.map(async (node) => {
        try {
          return { node, answer: await node.run(deadlineIn(answerWithinMs), ask) };
        } catch (failure) {
          const silent = isPgquorumError(failure) && failure.code === 'timeout';
          if (!silent && !isNodeFailure(failure)) throw failure;
          return { node, failure };
        }
      }),
    );
  }
}
