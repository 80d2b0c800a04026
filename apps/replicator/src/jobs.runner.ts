/** One loop a served node: runs the jobs that were asked for at it. */
import {
  Inject,
  Injectable,
  type BeforeApplicationShutdown,
  type OnApplicationBootstrap,
} from '@nestjs/common';
import { runJobs } from '#core/jobs/runner.pg.ts';
import { jobWorks } from './job-works.ts';
import { loopEach, type Loop } from './loop.ts';
import { REPLICATION, type Replication } from './tokens.ts';

/** Of one node in one process. */
const atOnceMax = 2;

@Injectable()
export class JobsRunner implements OnApplicationBootstrap, BeforeApplicationShutdown {
  readonly #replication: Replication;
  #loops: Loop[] = [];

  constructor(@Inject(REPLICATION) replication: Replication) {
    this.#replication = replication;
  }

  onApplicationBootstrap(): void {
    const { nodes, logger } = this.#replication;
    const works = jobWorks(this.#replication);
    this.#loops = loopEach(this.#replication, 'jobs', (home, signal, healthy) =>
      runJobs({ home, nodes, works, atOnceMax, logger, onHealthy: healthy }, signal),
    );
  }

  async beforeApplicationShutdown(): Promise<void> {
    await Promise.all(this.#loops.map((loop) => loop.stop()));
  }
}
