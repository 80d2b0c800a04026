/** A process that runs the jobs of one node, for tests that kill it. */
import type { NodeAddress } from '#core/config/settings.ts';
import { runJobs } from '#core/jobs/runner.pg.ts';
import { createLogger } from '#core/observability/logger.process.ts';
import type { ClusterNode } from '#core/topology/found.pg.ts';
import { steps } from './steps.ts';

const address = JSON.parse(process.argv[2]!) as NodeAddress;
const home = { name: address.name, number: 1, spare: 2, address } as unknown as ClusterNode;
process.on('disconnect', () => process.exit(1)); // the test is gone
await runJobs(
  {
    home,
    nodes: [home],
    works: { steps },
    atOnceMax: 2,
    logger: createLogger({ app: 'test', level: 'warn' }),
  },
  new AbortController().signal,
);
