/** Composition root of the replicator: settings and cluster in, one runner for each kind of loop. */
import { Module, type DynamicModule, type INestApplicationContext } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import type { Settings } from '#core/config/settings.ts';
import { PgquorumError } from '#core/errors/error.ts';
import type { Logger } from '#core/observability/logger.process.ts';
import { limitsOf } from '#core/bandwidth/limits.ts';
import { kafkaAddress } from '#core/changelog/address.files.ts';
import { Paces } from '#core/bandwidth/pace.ts';
import { checkCompression } from '#core/changelog/compression.process.ts';
import { removedAmong } from '#core/membership/members.pg.ts';
import { createRegistry } from '#core/observability/metrics.process.ts';
import type { ClusterNode } from '#core/topology/found.pg.ts';
import { openCluster } from '#core/topology/open-cluster.pg.ts';
import { ClocksRunner } from './clocks.runner.ts';
import { EdgesRunner } from './edges.runner.ts';
import { FeedRunner } from './feed.runner.ts';
import { FoldingRunner } from './folding.runner.ts';
import { HeartbeatRunner } from './heartbeat.runner.ts';
import { HousekeepingRunner } from './housekeeping.runner.ts';
import { IdentityRunner } from './identity.runner.ts';
import { JobsRunner } from './jobs.runner.ts';
import { JoiningRunner } from './joining.runner.ts';
import { ReplicationMetrics } from './metrics.ts';
import { PublishRunner } from './publish.runner.ts';
import { ResolversRunner } from './resolvers.runner.ts';
import { ResyncRunner } from './resync.runner.ts';
import { ReturnedRunner } from './returned.runner.ts';
import { ShardsRunner } from './shards.runner.ts';
import { StatusServer } from './status.server.ts';
import { ThrottleRunner } from './throttle.runner.ts';
import { REPLICATION, type Replication } from './tokens.ts';
import { VerifyRunner } from './verify.runner.ts';
import { WalBudgetRunner } from './wal-budget.runner.ts';
import { WatchRunner } from './watch.runner.ts';

@Module({})
class ReplicatorModule {
  static with(replication: Replication): DynamicModule {
    return {
      module: ReplicatorModule,
      providers: [
        { provide: REPLICATION, useValue: replication },
        IdentityRunner,
        HeartbeatRunner,
        ClocksRunner,
        FeedRunner,
        PublishRunner,
        EdgesRunner,
        HousekeepingRunner,
        FoldingRunner,
        ResolversRunner,
        JobsRunner,
        JoiningRunner,
        ResyncRunner,
        ReturnedRunner,
        WatchRunner,
        ThrottleRunner,
        WalBudgetRunner,
        VerifyRunner,
        ShardsRunner,
        StatusServer,
      ],
    };
  }
}

/** Whoever serves a node that was removed has nothing to do, and stays for the case that it comes back. */
async function checkServed(
  names: readonly string[],
  nodes: readonly ClusterNode[],
  unreachable: readonly string[],
): Promise<void> {
  const unknown = names.filter((name) => !nodes.some((node) => node.name === name));
  const asked = nodes.find(({ name }) => !unreachable.includes(name));
  const gone = unknown.length === 0 || asked === undefined ? [] : await removedAmong(asked.address, unknown);
  const wrong = unknown.filter((name) => !gone.includes(name));
  if (wrong.length > 0)
    throw new PgquorumError(
      'settings_invalid',
      `PGQUORUM_REPLICATOR_NODES names ${wrong.join(', ')}, which is no node of the cluster and not in PGQUORUM_NODES`,
    );
}

/** Starts every loop; `close` ends them after they have drained. */
export async function startReplicator(
  settings: Settings,
  logger: Logger,
  { moved }: Pick<Replication, 'moved'> = {
    moved: () => logger.error('the nodes of the cluster are others: this process has to be started anew'),
  },
): Promise<INestApplicationContext> {
  if (settings.nodes === undefined)
    throw new PgquorumError(
      'settings_invalid',
      'PGQUORUM_NODES is not set: a replicator needs the list of masters',
    );
  const log = settings.kafkaBrokers === undefined ? 'wal' : 'kafka';
  if (log === 'wal' && settings.changeFormat !== 'protobuf')
    throw new PgquorumError(
      'settings_invalid',
      `PGQUORUM_CHANGE_FORMAT is ${settings.changeFormat}: topics in a format need PGQUORUM_KAFKA_BROKERS`,
    );
  if (log === 'kafka') {
    kafkaAddress(settings); // what is wrong with it is said before anything runs
    await checkCompression(settings.compression);
  }
  const { nodes, unreachable, removed } = await openCluster({
    nodes: settings.nodes,
    cluster: settings.cluster,
    log,
  });
  const names = settings.replicatorNodes ?? nodes.map((node) => node.name);
  await checkServed(names, nodes, unreachable);
  if (removed.length > 0)
    logger.warn(
      { removed: removed.map(({ name }) => name) },
      'PGQUORUM_NODES lists nodes that were removed from the cluster: they are left out',
    );
  const served = nodes.filter((node) => names.includes(node.name));
  const metrics = new ReplicationMetrics(createRegistry({ app: 'replicator', cluster: settings.cluster }));
  const paces = new Paces(limitsOf(settings), () => performance.now());
  if (unreachable.length > 0) logger.warn({ unreachable }, 'started without some nodes');
  logger.info({ log, serves: served.map((node) => node.name) }, 'replicator started');
  return NestFactory.createApplicationContext(
    ReplicatorModule.with({ settings, log, nodes, served, removed, logger, metrics, paces, moved }),
    { logger: false },
  );
}
