/** The verbs on jobs. */
import type { JobBoard, JobList } from '#core/jobs/board.pg.ts';
import { parseJobQuery, type JobView } from '#core/jobs/job.ts';
import type { JobRequest } from '#core/jobs/store.pg.ts';

export class JobOperations {
  readonly #board: JobBoard;

  constructor(board: JobBoard) {
    this.#board = board;
  }

  /** For requests that take long: see `accepted` for what HTTP answers then. */
  start(request: JobRequest, without?: string): Promise<JobView> {
    return this.#board.start(request, without);
  }

  /** Looks at all nodes of the cluster. */
  preflight(): Promise<JobView> {
    return this.start({ kind: 'preflight', arguments: {}, unit: 'nodes' });
  }

  list(query: Readonly<Record<string, unknown>>): Promise<JobList> {
    return this.#board.list(parseJobQuery(query));
  }

  get(id: string): Promise<JobView> {
    return this.#board.get(id);
  }

  cancel(id: string): Promise<JobView> {
    return this.#board.cancel(id);
  }
}
