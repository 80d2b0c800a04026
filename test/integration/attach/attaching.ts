/** Attaching on a test's cluster, with the job run by the code that replicators run. */
import { attachCollection, type AttachOutcome } from '#core/collections/attach.pg.ts';
import { attachJob, attachWork, type AttachJobOptions } from '#core/collections/attach-job.pg.ts';
import { parseAttach } from '#core/collections/attach-request.ts';
import { runJob } from '#core/jobs/run-job.pg.ts';
import type { Job } from '#core/jobs/job.ts';
import { readJob, startJob } from '#core/jobs/store.pg.ts';
import { createLogger } from '#core/observability/logger.process.ts';
import type { TestCluster } from '#core/testing/cluster.pg.ts';

export const attach = (cluster: TestCluster, name: string, body: object): Promise<AttachOutcome> =>
  attachCollection({
    nodes: cluster.nodes.map((node) => node.address),
    name,
    request: parseAttach(body, { shards: 8, strategy: 'lww' }),
  });

/** The first node is the job's home. */
export async function startAttachJob(cluster: TestCluster, name: string): Promise<string> {
  const client = await cluster.client(0);
  const job = await startJob(client, { kind: attachJob, arguments: { collection: name } });
  await client.end();
  return job.id;
}

/** One run of the job, until it ends or `stop` aborts. */
export async function runAttachJob(
  cluster: TestCluster,
  id: string,
  options: AttachJobOptions & { readonly stop?: AbortSignal } = {},
): Promise<Job> {
  const works = { [attachJob]: attachWork({ stillMs: 60_000, ...options }) };
  const logger = createLogger({ app: 'test', level: 'silent' });
  await runJob(
    { id, home: cluster.nodes[0]!, nodes: cluster.nodes, works, logger },
    options.stop ?? new AbortController().signal,
  );
  const client = await cluster.client(0);
  const job = await readJob(client, id);
  await client.end();
  return job!;
}

/** Attach, backfill and verification; fails unless the job is done. */
export async function attachAll(
  cluster: TestCluster,
  name: string,
  body: object,
): Promise<{ outcome: AttachOutcome; result: unknown }> {
  const outcome = await attach(cluster, name, body);
  const job = await runAttachJob(cluster, await startAttachJob(cluster, name));
  if (job.state !== 'done') throw new Error(`the job is ${job.state}: ${JSON.stringify(job.error)}`);
  return { outcome, result: job.result };
}

/** All rows of a table as text, in the order of that text. */
export async function rowsOf(cluster: TestCluster, place: number, table: string): Promise<string[]> {
  const rows = await cluster.query<{ line: string }>(
    place,
    `select t::text as line from ${table} t order by t::text collate "C"`,
  );
  return rows.map(({ line }) => line);
}
