/** A process that runs the verifications of the first node, for tests that kill it. */
import { runJobs } from '#core/jobs/runner.pg.ts';
import { createLogger } from '#core/observability/logger.process.ts';
import type { ClusterNode } from '#core/topology/found.pg.ts';
import { verifyWork } from '#core/verify/verify-job.pg.ts';

const { cluster, nodes } = JSON.parse(process.argv[2]!) as { cluster: string; nodes: ClusterNode[] };
const logger = createLogger({ app: 'test', level: 'error' });
process.on('disconnect', () => process.exit(1)); // the test is gone
await runJobs(
  {
    home: nodes[0]!,
    nodes,
    // Pages of one key: a test has to have the time to kill this half-way.
    works: { verify: verifyWork({ cluster, logger, pageKeys: 1 }) },
    atOnceMax: 1,
    logger,
  },
  new AbortController().signal,
);
