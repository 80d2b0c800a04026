/** A sync that is asked for: what a node has lost behind everybody's back is there again, through the route and its job. */
import { expect, test } from '@jest/globals';
import { createLogger } from '#core/observability/logger.process.ts';
import { freshNodes } from '#core/testing/fresh-nodes.pg.ts';
import { eventually } from '#core/testing/wait.process.ts';
import { startReplicator } from '../../apps/replicator/src/app.module.ts';
import { settingsFor, startGateway } from './gateway-fixture.ts';
import { GrpcClient } from './grpc-client.ts';

test('a sync that is asked for copies all states from all others, as a job', async () => {
  await using fresh = await freshNodes({ count: 2 });
  await using gateway = await startGateway({ nodes: fresh.nodes, cluster: fresh.cluster });
  await gateway.send('PUT', '/v1/collections/docs', {
    body: { dimension: 3, shards: 4, index: { type: 'none' } },
  });
  const replicator = await startReplicator(
    settingsFor(fresh.nodes, fresh.cluster),
    createLogger({ app: 'test', level: 'silent' }),
  );
  try {
    await gateway.sql(
      0,
      `insert into docs (id, embedding) select 'k' || n, '[1,2,3]' from generate_series(1, 30) n`,
    );
    const rows = async (): Promise<number> =>
      (await gateway.sql<{ count: number }>(1, 'select count(*)::int as count from docs'))[0]!.count;
    await eventually('all is there', async () => (await rows()) === 30);
    // As if a node had never been told: neither the rows nor their versions.
    await gateway.sql(
      1,
      `set pgquorum.apply = 'on'; delete from docs; delete from pgquorum.version_docs; reset pgquorum.apply`,
    );
    expect(await rows()).toBe(0);

    const answer = await gateway.send('POST', '/v1/replication/replicas/n2/sync');
    expect(answer.status).toBe(202);
    const { job } = answer.body as { job: { id: string } };
    expect(job).toEqual({ id: job.id, state: 'waiting', progress: { done: 0, total: null, unit: 'keys' } });
    const done = await eventually(
      'the job is done',
      async () => {
        const { body } = await gateway.send('GET', `/v1/jobs/${job.id}`);
        return (body as { state: string }).state === 'done' ? (body as { result: object }) : null;
      },
      { withinMs: 60_000 },
    );
    expect(done.result).toEqual({ node: 'n2', from: ['n1'] });
    expect(await rows()).toBe(30);
    expect(
      await gateway.sql(
        1,
        `select body ->> 'happened' as happened, body ->> 'reason' as reason from pgquorum.event where type = 'resync' order by arrival`,
      ),
    ).toEqual([
      { happened: 'started', reason: 'a sync was asked for' },
      { happened: 'finished', reason: 'a sync was asked for' },
    ]);

    using client = new GrpcClient(gateway.gateway.grpcPort);
    expect(await client.call('Replication', 'SyncReplica', { node: 'n1' })).toMatchObject({ kind: 'sync' });
    expect(await gateway.send('POST', '/v1/replication/replicas/n9/sync')).toMatchObject({
      status: 404,
      body: { code: 'node_not_found' },
    });
  } finally {
    await replicator.close();
  }
}, 120_000);
